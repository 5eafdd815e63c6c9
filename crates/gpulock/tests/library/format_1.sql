-- A store as version 0.1.0 wrote it, with the commands asr, ocr, tts, long and next behind it:
-- 17 events, among them two of one step, and one of a step that changed no lease.
PRAGMA page_size = 4096;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE entry (
    pool TEXT NOT NULL,
    kind INTEGER NOT NULL,
    id ANY NOT NULL,
    lease_version INTEGER,
    queue_version INTEGER,
    queue_len INTEGER,
    body TEXT NOT NULL,
    PRIMARY KEY (pool, kind, id)
) STRICT, WITHOUT ROWID;
INSERT INTO entry VALUES('default',0,X'0000000000000001000660c724a354c70000ea0d270d',NULL,NULL,NULL,'{"at":1795258289706170,"event":"configured","inventory":{"source":"configuration","gpus":[{"index":0}]}}');
INSERT INTO entry VALUES('default',0,X'0000000000000002000660c724a3557a0000ee1e17c6',NULL,NULL,NULL,'{"at":1795258289706225,"event":"granted","gpus":[0],"token":1795258289706225,"waited_micros":0,"lease_id":"71c47a5b29be49a3444ea84474c596ba","task":"asr","host":"gpu1","pid":12349}');
INSERT INTO entry VALUES('default',0,X'0000000000000003000660c724a355d900008e39322e',NULL,NULL,NULL,'{"at":1795258289706419,"event":"claimed","token":1795258289706225,"lease_id":"71c47a5b29be49a3444ea84474c596ba","task":"asr","host":"gpu1","pid":12349}');
INSERT INTO entry VALUES('default',0,X'0000000000000004000660c724a373890000382a3e56',NULL,NULL,NULL,'{"at":1795258289714006,"event":"ended","token":1795258289706225,"gpus":[0],"how":"released","held_micros":7781,"draining":false,"lease_id":"71c47a5b29be49a3444ea84474c596ba","task":"asr","host":"gpu1","pid":12349}');
INSERT INTO entry VALUES('default',0,X'0000000000000005000660c724a38b2600002a8048d9',NULL,NULL,NULL,'{"at":1795258289720084,"event":"granted","gpus":[0],"token":1795258289720084,"waited_micros":0,"lease_id":"3254657563f38a2f22eb095d005c052a","task":"ocr","host":"gpu1","pid":12357}');
INSERT INTO entry VALUES('default',0,X'0000000000000006000660c724a38baf000003093981',NULL,NULL,NULL,'{"at":1795258289720142,"event":"claimed","token":1795258289720084,"lease_id":"3254657563f38a2f22eb095d005c052a","task":"ocr","host":"gpu1","pid":12357}');
INSERT INTO entry VALUES('default',0,X'0000000000000007000660c724a3a4810000bb4a3193',NULL,NULL,NULL,'{"at":1795258289726553,"event":"ended","token":1795258289720084,"gpus":[0],"how":"released","held_micros":6469,"draining":false,"lease_id":"3254657563f38a2f22eb095d005c052a","task":"ocr","host":"gpu1","pid":12357}');
INSERT INTO entry VALUES('default',0,X'0000000000000008000660c724a3af300000afaa3d2c',NULL,NULL,NULL,'{"at":1795258289729314,"event":"granted","gpus":[0],"token":1795258289729314,"waited_micros":0,"lease_id":"3b729f6e2f757ed853ade651c45c8f79","task":"tts","host":"gpu1","pid":12359}');
INSERT INTO entry VALUES('default',0,X'0000000000000009000660c724a3afad0000257fbd84',NULL,NULL,NULL,'{"at":1795258289729366,"event":"claimed","token":1795258289729314,"lease_id":"3b729f6e2f757ed853ade651c45c8f79","task":"tts","host":"gpu1","pid":12359}');
INSERT INTO entry VALUES('default',0,X'000000000000000a000660c724a3b2c30000164a63b5',NULL,NULL,NULL,'{"at":1795258289730209,"event":"ended","token":1795258289729314,"gpus":[0],"how":"released","held_micros":895,"draining":false,"lease_id":"3b729f6e2f757ed853ade651c45c8f79","task":"tts","host":"gpu1","pid":12359}');
INSERT INTO entry VALUES('default',0,X'000000000000000b000660c724a3c10d000092971421',NULL,NULL,NULL,'{"at":1795258289733886,"event":"granted","gpus":[0],"token":1795258289733886,"waited_micros":0,"lease_id":"9cdab7bf4f063a56d79817ef1cfb8c16","task":"long","host":"gpu1","pid":12361}');
INSERT INTO entry VALUES('default',0,X'000000000000000c000660c724a3c182000031befe8d',NULL,NULL,NULL,'{"at":1795258289733937,"event":"claimed","token":1795258289733886,"lease_id":"9cdab7bf4f063a56d79817ef1cfb8c16","task":"long","host":"gpu1","pid":12361}');
INSERT INTO entry VALUES('default',0,X'000000000000000c000660c724ab7b0600002bc79956',NULL,NULL,NULL,'{"at":1795258290240240,"event":"queued","wants":1,"priority":"normal","lease_id":"2a51025a8fa21d91e88a46c8ac1c985c","task":"next","host":"gpu1","pid":12396}');
INSERT INTO entry VALUES('default',0,X'000000000000000d000660c724c24c4c000074ed23d2',NULL,NULL,NULL,'{"at":1795258291735379,"event":"ended","token":1795258289733886,"gpus":[0],"how":"released","held_micros":2001493,"draining":false,"lease_id":"9cdab7bf4f063a56d79817ef1cfb8c16","task":"long","host":"gpu1","pid":12361}');
INSERT INTO entry VALUES('default',0,X'000000000000000d000660c724c24c4c0001a9598240',NULL,NULL,NULL,'{"at":1795258291735379,"event":"granted","gpus":[0],"token":1795258291735379,"waited_micros":1495139,"lease_id":"2a51025a8fa21d91e88a46c8ac1c985c","task":"next","host":"gpu1","pid":12396}');
INSERT INTO entry VALUES('default',0,X'000000000000000e000660c724c24dd00000a35c1e86',NULL,NULL,NULL,'{"at":1795258291736006,"event":"claimed","token":1795258291735379,"lease_id":"2a51025a8fa21d91e88a46c8ac1c985c","task":"next","host":"gpu1","pid":12396}');
INSERT INTO entry VALUES('default',0,X'000000000000000f000660c724c251ff00009e49eef5',NULL,NULL,NULL,'{"at":1795258291737014,"event":"ended","token":1795258291735379,"gpus":[0],"how":"released","held_micros":1635,"draining":false,"lease_id":"2a51025a8fa21d91e88a46c8ac1c985c","task":"next","host":"gpu1","pid":12396}');
INSERT INTO entry VALUES('default',2,'',15,2,0,'{"inventory":{"source":"configuration","gpus":[{"index":0}]},"settings":{"claim_time":{"secs":10,"nanos":0},"pass_bound":{"secs":60,"nanos":0},"witness_patience":{"secs":1,"nanos":0}},"last_token":1795258291735379,"counters":{"granted":5,"released":5,"expired":0,"died":0,"seized":0,"timed_out":0,"cancelled":0,"dropped":0,"ownership_violations":0,"waited_micros":1495139,"held_micros":2018273}}');
CREATE TABLE waiter (
    arrival INTEGER PRIMARY KEY,
    pool TEXT NOT NULL,
    lease_id TEXT NOT NULL,
    lane TEXT NOT NULL,
    rank INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (pool, lease_id)
) STRICT;
CREATE TABLE clock (
    boot_id TEXT NOT NULL PRIMARY KEY,
    offset INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX waiter_order ON waiter (pool, lane, rank, arrival);
PRAGMA application_id = 1735421035;
PRAGMA user_version = 1;
COMMIT;
