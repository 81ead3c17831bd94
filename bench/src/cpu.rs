//! CPU time of a process, from `/proc`.

use std::collections::BTreeMap;
use std::time::Duration;

/// Clock tick of `/proc/PID/stat` (`USER_HZ` is 100 on Linux).
const TICK: Duration = Duration::from_millis(10);

/// CPU time that a process has used up to one moment, user and kernel.
pub(crate) struct CpuTime {
    /// Live threads, in nanoseconds (`/proc/PID/task/TID/schedstat`). Empty if the
    /// kernel does not keep these statistics.
    threads: BTreeMap<String, Duration>,
    /// All threads, also those that ended, in ticks.
    pub(crate) total: Duration,
}

impl CpuTime {
    /// Reads the CPU time of a running process.
    ///
    /// # Errors
    ///
    /// If the process is gone, or `/proc` has another format.
    pub(crate) fn of(process: u32) -> anyhow::Result<Self> {
        let mut threads = BTreeMap::new();
        for task in std::fs::read_dir(format!("/proc/{process}/task"))?.flatten() {
            // A thread can end at any time.
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            if let Some(nanoseconds) = text.split(' ').next().and_then(|text| text.parse().ok()) {
                let id = task.file_name().to_string_lossy().into_owned();
                threads.insert(id, Duration::from_nanos(nanoseconds));
            }
        }
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The name in parentheses can contain spaces. utime and stime are the 14th and
        // 15th field of the line.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks = fields.skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
        Ok(Self { threads, total: TICK * ticks })
    }

    /// Returns the CPU time used since an earlier reading of the same process.
    ///
    /// Takes the sum of the threads, which is exact to the microsecond, unless a thread
    /// ended in between; then the total in ticks.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let total = self.total.saturating_sub(earlier.total);
        if earlier.threads.keys().any(|thread| !self.threads.contains_key(thread)) {
            return total;
        }
        let exact: Duration = self
            .threads
            .iter()
            .map(|(thread, time)| {
                time.saturating_sub(earlier.threads.get(thread).copied().unwrap_or_default())
            })
            .sum();
        // utime and stime are each rounded down, so the total can be two ticks too large.
        // A thread that started and ended in between is only in the total.
        if exact + 2 * TICK < total { total } else { exact }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(threads: &[(&str, u64)], total: u64) -> CpuTime {
        CpuTime {
            threads: threads
                .iter()
                .map(|(id, time)| ((*id).to_owned(), Duration::from_millis(*time)))
                .collect(),
            total: Duration::from_millis(total),
        }
    }

    #[test]
    fn exact_sum_is_used_while_threads_live() {
        let earlier = reading(&[("1", 100), ("2", 50)], 150);
        let later = reading(&[("1", 103), ("2", 54), ("3", 2)], 150);
        assert_eq!(later.since(&earlier), Duration::from_millis(9));
    }

    #[test]
    fn total_is_used_when_threads_ended() {
        let earlier = reading(&[("1", 100), ("2", 50)], 150);
        assert_eq!(reading(&[("1", 103)], 170).since(&earlier), Duration::from_millis(20));
        // Started and ended in between.
        let later = reading(&[("1", 103), ("2", 54)], 250);
        assert_eq!(later.since(&earlier), Duration::from_millis(100));
    }

    #[test]
    fn own_process_uses_cpu() {
        let earlier = CpuTime::of(std::process::id()).unwrap();
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let used = CpuTime::of(std::process::id()).unwrap().since(&earlier);
        assert!(used > Duration::ZERO);
    }
}
