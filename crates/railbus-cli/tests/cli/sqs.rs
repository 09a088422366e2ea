//! Commands beside queues of SQS.

use super::Scene;
use railbus_testbed::Moto;

#[test]
fn what_is_published_to_a_queue_comes_to_a_group_and_to_nobody_without_one() {
    let (moto, scene) = (Moto::start().unwrap(), Scene::new());
    let dead = moto.queue_url("cli-dead");
    let url = format!("{}&create=true&wait_time=1s&dlq_url={dead}", moto.url("cli"));
    assert_ne!(scene.run(&["doctor", &moto.url("cli")]).code, 0, "there is no queue yet");
    scene.ok(&["publish", &url, "shop", "--type", "order.placed", "--data", "{\"n\": 1}"]);
    let refused = scene.broken(&["subscribe", &url, "shop"]);
    assert!(refused.contains("reaches nobody outside this process"), "{refused}");
    let told = scene.ok(&["subscribe", &url, "shop", "--group", "g", "--count", "1"]);
    assert!(told.contains("order.placed"), "{told}");
    let doctor = scene.run(&["doctor", &url]);
    assert!(doctor.code == 0 && !doctor.out.contains("testing"), "{} {}", doctor.out, doctor.err);
}
