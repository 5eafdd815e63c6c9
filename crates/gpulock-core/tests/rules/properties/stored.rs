//! What is stored is read back as it was.

use gpulock_core::{Event, Lease, Ledger, Waiter};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::orders::{Script, orders};

fn through_json<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let text = serde_json::to_string(value).expect("a value that can be written");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn what_is_stored_is_read_back_as_it_was(gpus in 1u32..=4, orders in orders()) {
        let mut script = Script::new(gpus);
        for order in &orders {
            let Some(command) = script.command(order) else {
                script.play(order);
                continue;
            };
            for event in script.desk.run(command).into_iter().flat_map(|step| step.events) {
                prop_assert_eq!(through_json::<Event>(&event), event);
            }
            let pool = script.desk.view();
            prop_assert_eq!(&through_json::<Ledger>(&pool.ledger), &pool.ledger);
            for lease in &pool.leases {
                prop_assert_eq!(&through_json::<Lease>(lease), lease);
            }
            for waiter in script.desk.waiting() {
                // Stores keep these two beside the body.
                let (seen_at, arrival) = (waiter.seen_at, waiter.arrival);
                let read = Waiter { seen_at, arrival, ..through_json(&waiter) };
                prop_assert_eq!(read, waiter);
            }
        }
    }
}
