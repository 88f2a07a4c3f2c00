//! Any bytes can be parsed as a label file. The labels can be written as a label file again, and as JSON.
#![no_main]

use appinfo::{app_info::AppInfo, labels::Labels};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let labels = Labels::parse(text);
    for (key, value) in labels.as_map() {
        assert!(!key.is_empty() && key.trim() == key && !key.contains(['=', '\n']), "{key:?}");
        assert!(!value.contains(['"', '\n']), "{value:?}");
    }
    let lines: Vec<_> = labels.as_map().iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    // the parser removes one byte-order mark; the first key may begin with another
    let text = format!("\u{feff}{}", lines.join("\n"));
    assert_eq!(Labels::parse(text.as_bytes()), labels);

    let info = AppInfo::new("pod", "namespace", &labels);
    let json = serde_json::to_string(&info).expect("JSON");
    assert_eq!(serde_json::from_str::<AppInfo>(&json).expect("the same"), info);
});
