//! Several collectors that share a list of targets: each target is scraped by as many of them as the replication
//! factor says, chosen by a hash of its labels.

/// More collectors than this share no list.
const MAX_SHARDS: u32 = 10_000;

/// Which part of the targets is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: u32,
    count: u32,
    replicas: u32,
}

impl Shard {
    /// Reads `i/n`, with `i` from 0, or `auto/n`: then `i` is the number at the end of the host's name, as a
    /// StatefulSet of Kubernetes numbers its pods.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn parse(text: &str, replicas: u32, host_name: &str) -> Result<Self, String> {
        let wrong = || format!("--shard={text}: give i/n with i below n, such as 0/3, or auto/n");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let count: u32 = count.parse().map_err(|_| wrong())?;
        let index: u32 = if index == "auto" {
            let number = host_name.rsplit_once('-').and_then(|(_, number)| number.parse().ok());
            number.ok_or_else(|| {
                format!("--shard={text}: the host's name {host_name:?} ends in no number, such as collector-0: give i/n")
            })?
        } else {
            index.parse().map_err(|_| wrong())?
        };
        if count == 0 || count > MAX_SHARDS {
            return Err(wrong());
        }
        if index >= count {
            return Err(format!(
                "--shard={text}: this is number {index}, and there are numbers 0 to {}",
                count - 1
            ));
        }
        if replicas == 0 || replicas > count {
            return Err(format!("--shard.replication-factor={replicas}: must lie in 1..{count}"));
        }
        Ok(Shard { index, count, replicas })
    }

    /// A target goes to the shard that its hash names, and to those behind it.
    pub fn takes(self, hash: u64) -> bool {
        let (index, count) = (u64::from(self.index), u64::from(self.count));
        (index + count - hash % count) % count < u64::from(self.replicas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_as_many_shards_as_replicas() {
        for (count, replicas) in [(1, 1), (3, 1), (5, 2), (4, 4)] {
            let shards: Vec<Shard> = (0..count)
                .map(|index| Shard::parse(&format!("{index}/{count}"), replicas, "").unwrap())
                .collect();
            for hash in (0..1000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
                let takers = shards.iter().filter(|shard| shard.takes(hash)).count();
                assert_eq!(takers, replicas as usize, "{count} {replicas} {hash}");
            }
        }
    }

    #[test]
    fn the_ordinal_of_a_stateful_set() {
        assert_eq!(Shard::parse("auto/3", 1, "collector-2"), Shard::parse("2/3", 1, ""));
        for (text, replicas, host, why) in [
            ("auto/3", 1, "box", "ends in no number"),
            ("auto/3", 1, "collector-3", "numbers 0 to 2"),
            ("3/3", 1, "", "numbers 0 to 2"),
            ("0/0", 1, "", "give i/n"),
            ("0", 1, "", "give i/n"),
            ("x/2", 1, "", "give i/n"),
            ("-1/2", 1, "", "give i/n"),
            ("0/2", 3, "", "must lie in 1..2"),
            ("0/2", 0, "", "must lie in 1..2"),
        ] {
            let error = Shard::parse(text, replicas, host).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
