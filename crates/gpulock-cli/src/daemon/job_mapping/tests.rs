use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};

use tempfile::TempDir;

use super::*;

const FREE: Option<&str> = None;

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("gpulock-mapping-").tempdir().unwrap()
}

fn gpus<'t>(all: &[(u32, Option<&'t str>)]) -> Vec<(GpuIndex, Option<&'t str>)> {
    all.iter().map(|(gpu, task)| (GpuIndex(*gpu), *task)).collect()
}

/// Every file with its text, hidden ones too.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    named.map(|(name, path)| (name, fs::read_to_string(path).unwrap_or_default())).collect()
}

fn expected<const N: usize>(all: [(&str, &str); N]) -> BTreeMap<String, String> {
    all.map(|(name, text)| (name.to_owned(), text.to_owned())).into()
}

#[test]
fn a_file_is_there_while_its_gpu_is_held() {
    let folder = folder();
    let mut mapping = JobMapping::new(folder.path().to_owned());
    mapping.update(&gpus(&[(0, Some("ocr")), (1, FREE), (12, Some("asr"))])).unwrap();
    assert_eq!(files(folder.path()), expected([("0", "ocr\n"), ("12", "asr\n")]));
    mapping.update(&gpus(&[(0, Some("tts")), (1, Some("asr")), (12, FREE)])).unwrap();
    assert_eq!(files(folder.path()), expected([("0", "tts\n"), ("1", "asr\n")]));
    let mode = fs::metadata(folder.path().join("0")).unwrap().mode();
    assert_eq!(mode & 0o777, READABLE_BY_ALL);
    // GPU 1 has left the pool.
    mapping.update(&gpus(&[(0, Some("tts")), (12, FREE)])).unwrap();
    assert_eq!(files(folder.path()), expected([("0", "tts\n")]));
    mapping.clear().unwrap();
    assert_eq!(files(folder.path()), expected([]));
}

#[test]
fn what_an_earlier_process_left_is_removed_and_what_belongs_to_others_stays() {
    let folder = folder();
    for name in ["0", "1", "2.0", "7", "notes", ".0.gpulock"] {
        fs::write(folder.path().join(name), "of others\n").unwrap();
    }
    let mut mapping = JobMapping::new(folder.path().to_owned());
    mapping.update(&gpus(&[(0, Some("ocr")), (1, FREE)])).unwrap();
    let other = "of others\n";
    let left = expected([("0", "ocr\n"), ("2.0", other), ("7", other), ("notes", other)]);
    assert_eq!(files(folder.path()), left);
    mapping.clear().unwrap();
    let left = expected([("2.0", other), ("7", other), ("notes", other)]);
    assert_eq!(files(folder.path()), left);
}

#[test]
fn only_what_changed_is_written() {
    let folder = folder();
    let mut mapping = JobMapping::new(folder.path().to_owned());
    let inode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().ino();
    mapping.update(&gpus(&[(0, Some("ocr")), (1, Some("asr"))])).unwrap();
    // While a file is open its inode is not given to another.
    let kept = [0, 1].map(|gpu| fs::File::open(folder.path().join(gpu.to_string())).unwrap());
    let before = (inode("0"), inode("1"));
    mapping.update(&gpus(&[(0, Some("ocr")), (1, Some("tts"))])).unwrap();
    assert_eq!(inode("0"), before.0);
    assert_ne!(inode("1"), before.1);
    drop(kept);
}

#[test]
fn a_link_in_the_way_is_replaced_and_its_target_untouched() {
    let (folder, elsewhere) = (folder(), folder());
    let target = elsewhere.path().join("precious");
    fs::write(&target, "precious\n").unwrap();
    for name in ["0", ".0.gpulock", "1"] {
        symlink(&target, folder.path().join(name)).unwrap();
    }
    let mut mapping = JobMapping::new(folder.path().to_owned());
    mapping.update(&gpus(&[(0, Some("ocr")), (1, FREE)])).unwrap();
    assert_eq!(files(folder.path()), expected([("0", "ocr\n")]));
    assert!(fs::symlink_metadata(folder.path().join("0")).unwrap().is_file());
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious\n");
}

#[test]
fn what_cannot_be_written_is_an_error_and_is_tried_again() {
    let folder = folder();
    fs::create_dir(folder.path().join("0")).unwrap();
    let mut mapping = JobMapping::new(folder.path().to_owned());
    let now = gpus(&[(0, Some("ocr")), (1, Some("asr"))]);
    let error = mapping.update(&now).unwrap_err().to_string();
    assert!(error.contains("/0 cannot be kept: "), "{error}");
    // The others are up to date, and no draft is left.
    assert_eq!(files(folder.path()), expected([("0", ""), ("1", "asr\n")]));
    fs::remove_dir(folder.path().join("0")).unwrap();
    mapping.update(&now).unwrap();
    assert_eq!(files(folder.path()), expected([("0", "ocr\n"), ("1", "asr\n")]));
}

#[test]
fn the_folder_is_made_when_there_is_something_to_say() {
    let folder = folder();
    let below = folder.path().join("run/jobs");
    let mut mapping = JobMapping::new(below.clone());
    mapping.update(&gpus(&[(0, FREE)])).unwrap();
    assert!(!below.exists());
    mapping.update(&gpus(&[(0, Some("ocr"))])).unwrap();
    assert_eq!(files(&below), expected([("0", "ocr\n")]));
}

#[test]
fn a_folder_that_takes_no_files_is_an_error() {
    let folder = folder();
    fs::write(folder.path().join("file"), "").unwrap();
    let refused = |path: &Path| {
        let mut mapping = JobMapping::new(path.to_owned());
        mapping.update(&gpus(&[(0, Some("ocr"))])).unwrap_err()
    };
    assert!(refused(&folder.path().join("file/jobs")).to_string().contains("/0 cannot be kept: "));
    // Nobody can make a file there, not even root.
    refused(Path::new("/proc/self"));
    // And nobody but root here.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o555)).unwrap();
    if rustix::process::geteuid().is_root() {
        JobMapping::new(folder.path().to_owned()).update(&gpus(&[(0, Some("ocr"))])).unwrap();
    } else {
        assert_eq!(refused(folder.path()).kind(), ErrorKind::PermissionDenied);
    }
}

#[test]
fn a_task_is_one_line_that_no_reader_misunderstands() {
    for (task, line) in [
        ("speech to text, part 2", "speech to text, part 2"),
        ("Überschrift → Text", "Überschrift _ Text"),
        ("a\nb\r\tc", "a_b__c"),
        ("say \"hi\" \\ {x}", "say _hi_ _ _x_"),
        ("  ", "unnamed"),
        ("", "unnamed"),
    ] {
        assert_eq!(sanitised(task), line);
    }
    assert_eq!(sanitised(&"x".repeat(1000)).len(), LONGEST_NAME);
}
