//! The ten most frequent words of stdin and their share: hash table, sorting, Unicode and formatting make a module
//! of about 150 KB.

use std::collections::HashMap;
use std::io::BufRead;

fn main() -> std::io::Result<()> {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        for word in line?.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_lowercase()).or_default() += 1;
        }
    }
    let total: u64 = counts.values().sum();
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for (word, count) in sorted.iter().take(10) {
        println!("{count:7} {:5.1} % {word}", 100.0 * *count as f64 / total as f64);
    }
    Ok(())
}
