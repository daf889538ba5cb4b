//! A page like node_exporter's, of about a thousand series, with values that move like a host's: 41 % of them
//! zero, 79 % as they were at the tick before. And the same page with every value changing.

use std::sync::Arc;

use collector::model::{Batch, Kind, SeriesTable};
use collector_tests::made::{self, Series};

/// Time of the first tick, in milliseconds, and between ticks.
pub const START_MS: i64 = 1_790_000_000_000;
pub const TICK_MS: i64 = 15_000;

/// How a value moves.
#[derive(Clone, Debug)]
pub enum Motion {
    Zero,
    /// Does not change.
    Still(f64),
    /// A count: from where, and by how much at most each tick.
    Counts(f64, f64),
    /// Seconds in hundredths: from where, and by how much at most each tick.
    Ticks(f64, f64),
    /// Any double in this range.
    Noise(f64, f64),
    /// As it was recorded, the oldest last; then it does not change.
    Recorded(Vec<f64>),
}

/// One collector's part of the page.
pub struct Part {
    pub name: &'static str,
    pub series: Vec<(Series, Motion)>,
}

/// The page: parts, as collectors give them, and what makes its values.
pub struct Page {
    pub parts: Vec<Part>,
    seed: u64,
}

impl Page {
    /// How many series there are.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.series.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A page of moving values becomes one in which every value is another double at each tick.
    #[must_use]
    pub fn all_noise(mut self) -> Self {
        for (_, motion) in self.parts.iter_mut().flat_map(|part| &mut part.series) {
            *motion = Motion::Noise(0.0, 1e9);
        }
        self
    }

    /// The batches of `ticks` ticks, each a batch for every part.
    pub fn ticks(&mut self, ticks: usize) -> Vec<Vec<Batch>> {
        let table = Arc::new(SeriesTable::default());
        let labels = made::owned(&[("instance", "node17.example.com:9100"), ("job", "node")]);
        let shapes: Vec<_> = self
            .parts
            .iter()
            .map(|part| {
                let floats: Vec<Series> = part.series.iter().map(|series| series.0.clone()).collect();
                made::shape(&table, &format!("host/{}", part.name), &labels, &floats, &[])
            })
            .collect();
        let mut all = Vec::new();
        for tick in 0..ticks {
            let time = START_MS + TICK_MS * tick as i64 + (self.random() * 9.0) as i64;
            let mut batches = Vec::new();
            for (number, shape) in shapes.iter().enumerate() {
                let mut values = Vec::new();
                for series in 0..self.parts[number].series.len() {
                    values.push(self.step(number, series));
                }
                batches.push(made::batch(shape, time, &values));
            }
            all.push(batches);
        }
        all
    }

    /// The page with so many series at the most, whose values move by `seed`: what is too much is left out of the
    /// largest parts.
    #[must_use]
    pub fn cut(mut self, series: usize, seed: u64) -> Self {
        let mut surplus = self.len().saturating_sub(series);
        while surplus > 0
            && let Some(part) = self.parts.iter_mut().max_by_key(|part| part.series.len())
        {
            let left = part.series.len().saturating_sub(surplus);
            surplus -= part.series.len() - left;
            part.series.truncate(left);
        }
        self.parts.retain(|part| !part.series.is_empty());
        Page { seed, ..self }
    }

    /// The page as one part, as a scrape of it gives it.
    #[must_use]
    pub fn scraped(self) -> Self {
        let series = self.parts.into_iter().flat_map(|part| part.series).collect();
        Page { parts: vec![Part { name: "page", series }], seed: self.seed }
    }

    /// Appends the next values of a part.
    pub fn step_part(&mut self, part: usize, values: &mut Vec<f64>) {
        for series in 0..self.parts[part].series.len() {
            values.push(self.step(part, series));
        }
    }

    fn step(&mut self, part: usize, series: usize) -> f64 {
        let random = self.random();
        match &mut self.parts[part].series[series].1 {
            Motion::Zero => 0.0,
            Motion::Still(value) => *value,
            Motion::Counts(value, by) => {
                *value += (random * *by).round();
                *value
            }
            Motion::Ticks(value, by) => {
                *value = ((*value + random * *by) * 100.0).round() / 100.0;
                *value
            }
            Motion::Noise(low, high) => *low + random * (*high - *low),
            Motion::Recorded(values) if values.len() > 1 => values.pop().unwrap_or_default(),
            Motion::Recorded(values) => values[0],
        }
    }

    /// From 0 up to 1, evenly.
    fn random(&mut self) -> f64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A page of one part.
    pub fn of(name: &'static str, series: Vec<(Series, Motion)>) -> Self {
        Page { parts: vec![Part { name, series }], seed: 1 }
    }

    fn part(&mut self, name: &'static str) -> &mut Vec<(Series, Motion)> {
        self.parts.push(Part { name, series: Vec::new() });
        &mut self.parts.last_mut().expect("just pushed").series
    }
}

fn counter(name: &str, labels: &[(&str, &str)]) -> Series {
    Series::gauge(name, labels).kind(Kind::Counter)
}

/// The page of a host with 16 CPUs, some disks and many network devices of which few are busy.
pub fn host() -> Page {
    let mut page = Page { parts: Vec::new(), seed: 0x2545_f491_4f6c_dd1d };
    cpus(&mut page);
    disks(&mut page);
    filesystems(&mut page);
    plain(&mut page, "loadavg", "node_load", "1 15 5", 10, 3, &Motion::Noise(0.1, 3.0));
    plain(
        &mut page,
        "meminfo",
        "node_memory_",
        MEMORY,
        4,
        9,
        &Motion::Counts(123_456_789_504.0, 4_194_304.0),
    );
    networks(&mut page);
    plain(&mut page, "netstat", "node_netstat_", NETSTAT, 3, 9, &Motion::Counts(83_451_231.0, 9000.0));
    plain(&mut page, "vmstat", "node_vmstat_", VMSTAT, 9, 9, &Motion::Counts(7_834_512.0, 900.0));
    plain(&mut page, "timex", "node_timex_", TIMEX, 3, 9, &Motion::Noise(-1e-4, 1e-4));
    plain(&mut page, "stat", "node_", STAT, 9, 5, &Motion::Counts(98_345_123.0, 40_000.0));
    plain(&mut page, "sockstat", "node_sockstat_", SOCKSTAT, 3, 9, &Motion::Counts(40.0, 2.0));
    outcome(&mut page);
    page
}

/// Families without labels: of each ten, so many move (as `motion` says), and up to `still` are still; the rest
/// are zero.
fn plain(
    page: &mut Page,
    part: &'static str,
    prefix: &str,
    names: &str,
    moving: usize,
    still: usize,
    motion: &Motion,
) {
    let series = page.part(part);
    for (number, name) in names.split(' ').enumerate() {
        let motion = match number % 10 {
            n if n < moving => motion.clone(),
            n if n < still => Motion::Still(4096.0 * (number * number + 1) as f64),
            _ => Motion::Zero,
        };
        series.push((Series::gauge(&format!("{prefix}{name}"), &[]), motion));
    }
}

fn cpus(page: &mut Page) {
    let series = page.part("cpu");
    for cpu in 0..16 {
        for mode in ["nice", "user"] {
            let labels = [("cpu", &*cpu.to_string()), ("mode", mode)];
            series.push((counter("node_cpu_guest_seconds_total", &labels), Motion::Zero));
        }
    }
    for cpu in 0..16 {
        for (mode, motion) in [
            ("idle", Motion::Ticks(1_834_511.27, 15.0)),
            ("iowait", if cpu < 4 { Motion::Ticks(734.15, 0.06) } else { Motion::Still(31.25) }),
            ("irq", Motion::Zero),
            ("nice", Motion::Still(112.5 + f64::from(cpu))),
            ("softirq", if cpu < 2 { Motion::Ticks(5311.27, 0.2) } else { Motion::Still(12.03) }),
            ("steal", Motion::Zero),
            ("system", Motion::Ticks(40_311.71, 0.5)),
            ("user", Motion::Ticks(90_117.44, 2.0)),
        ] {
            let labels = [("cpu", &*cpu.to_string()), ("mode", mode)];
            series.push((counter("node_cpu_seconds_total", &labels), motion));
        }
    }
    let series = page.part("softnet");
    for name in ["dropped", "processed", "times_squeezed"] {
        for cpu in 0..16 {
            let name = format!("node_softnet_{name}_total");
            let motion = match (&*name, cpu) {
                ("node_softnet_processed_total", 0..4) => Motion::Counts(98_123_451.0, 9000.0),
                ("node_softnet_processed_total", _) => Motion::Still(7712.0),
                _ => Motion::Zero,
            };
            series.push((counter(&name, &[("cpu", &cpu.to_string())]), motion));
        }
    }
}

fn disks(page: &mut Page) {
    let series = page.part("diskstats");
    for (position, name) in DISK.split(' ').enumerate() {
        for (number, device) in ["dm-0", "dm-1", "nvme0n1", "nvme1n1", "sda", "sdb", "sr0"].iter().enumerate()
        {
            let seconds = name.ends_with("seconds_total");
            let motion = match (number, position % 3) {
                (0 | 2, 0 | 1) if seconds => Motion::Ticks(93_511.271, 3.0),
                (0 | 2, 0 | 1) => Motion::Counts(71_341_234_176.0, 409_600.0),
                (1 | 3 | 4, 0 | 1) => Motion::Still(81_234.5 * (number + position) as f64),
                _ => Motion::Zero,
            };
            series.push((counter(&format!("node_disk_{name}"), &[("device", device)]), motion));
        }
    }
}

fn filesystems(page: &mut Page) {
    let series = page.part("filesystem");
    for (position, name) in
        ["avail_bytes", "device_error", "files", "files_free", "free_bytes", "readonly", "size_bytes"]
            .iter()
            .enumerate()
    {
        for (number, (device, fstype, mountpoint)) in MOUNTS.iter().enumerate() {
            let labels = [("device", *device), ("fstype", *fstype), ("mountpoint", *mountpoint)];
            let motion = match (position, number) {
                (0 | 3 | 4, 0) => Motion::Counts(412_316_860_416.0, -81_920.0),
                (1 | 5, _) => Motion::Zero,
                _ => Motion::Still(53_687_091_200.0 * (number + 1) as f64 - 4096.0 * position as f64),
            };
            series.push((Series::gauge(&format!("node_filesystem_{name}"), &labels), motion));
        }
    }
}

fn networks(page: &mut Page) {
    let devices: Vec<String> = ["docker0", "eth0", "lo"]
        .into_iter()
        .map(str::to_owned)
        .chain((1..8).map(|n| format!("veth{:07x}", n * 0x0123_4567u32 % 0x0fff_ffff)))
        .collect();
    let series = page.part("netdev");
    for direction in ["receive", "transmit"] {
        for (position, name) in
            ["bytes", "packets", "compressed", "drop", "errs", "fifo", "frame", "multicast"]
                .iter()
                .enumerate()
        {
            for (number, device) in devices.iter().enumerate() {
                let motion = match (position, number) {
                    (0, 1..4) => Motion::Counts(9_812_345_671.0, 812_345.0),
                    (1, 1..4) => Motion::Counts(81_234_512.0, 4234.0),
                    (0 | 1, _) => Motion::Still(81_213.0 * (number + position) as f64),
                    _ => Motion::Zero,
                };
                let name = format!("node_network_{direction}_{name}_total");
                series.push((counter(&name, &[("device", device)]), motion));
            }
        }
    }
    let series = page.part("netclass");
    for (position, name) in NETCLASS.split(' ').enumerate() {
        for (number, device) in devices.iter().enumerate() {
            let motion = if position % 4 == 0 || position % 7 == 1 {
                Motion::Zero
            } else {
                Motion::Still((position * (number + 1)) as f64)
            };
            series.push((Series::gauge(&format!("node_network_{name}"), &[("device", device)]), motion));
        }
    }
}

/// The page of a host that also serves: with classic histograms of how long its answers took.
pub fn server() -> Page {
    let mut page = host();
    let series = page.part("requests");
    let name = |end: &str| format!("http_request_duration_seconds{end}");
    for (handler, busy) in [
        ("/", 0.0f64),
        ("/api/v1/label/:name/values", 0.5),
        ("/api/v1/query", 40.0),
        ("/api/v1/query_range", 15.0),
        ("/api/v1/write", 6.0),
        ("/graph", 0.0),
        ("/metrics", 1.0),
        ("/static/*filepath", 0.0),
    ] {
        for (bound, share) in [
            ("0.005", 0.1),
            ("0.01", 0.3),
            ("0.05", 0.7),
            ("0.1", 0.8),
            ("0.5", 0.95),
            ("1", 1.0),
            ("+Inf", 1.0),
        ] {
            let labels = [("handler", handler), ("le", bound)];
            let motion = Motion::Counts((81_234.0 * busy * share).round(), busy * share);
            series.push((Series::gauge(&name("_bucket"), &labels).kind(Kind::Histogram), motion));
        }
        for (end, motion) in [
            ("_sum", if busy > 0.0 { Motion::Noise(7000.0, 9000.0) } else { Motion::Zero }),
            ("_count", Motion::Counts(81_234.0 * busy, busy)),
        ] {
            series.push((Series::gauge(&name(end), &[("handler", handler)]).kind(Kind::Histogram), motion));
        }
    }
    page
}

fn outcome(page: &mut Page) {
    let series = page.part("outcome");
    let collectors = [
        "arp",
        "conntrack",
        "cpu",
        "diskstats",
        "entropy",
        "filefd",
        "filesystem",
        "loadavg",
        "meminfo",
        "netclass",
        "netdev",
        "netstat",
        "os",
        "pressure",
        "schedstat",
        "sockstat",
        "softnet",
        "stat",
        "textfile",
        "time",
        "timex",
        "udp_queues",
        "uname",
        "vmstat",
    ];
    for (name, motion) in [
        ("node_scrape_collector_duration_seconds", Motion::Noise(1e-5, 4e-4)),
        ("node_scrape_collector_success", Motion::Still(1.0)),
    ] {
        series.extend(
            collectors.iter().map(|which| (Series::gauge(name, &[("collector", which)]), motion.clone())),
        );
    }
}

const DISK: &str = "discard_time_seconds_total discarded_sectors_total discards_completed_total \
    discards_merged_total flush_requests_time_seconds_total flush_requests_total io_now \
    io_time_seconds_total io_time_weighted_seconds_total read_bytes_total read_time_seconds_total \
    reads_completed_total reads_merged_total write_time_seconds_total writes_completed_total \
    writes_merged_total written_bytes_total";

const MOUNTS: &[(&str, &str, &str)] = &[
    ("/dev/mapper/vg0-root", "ext4", "/"),
    ("/dev/nvme0n1p1", "vfat", "/boot/efi"),
    ("/dev/nvme0n1p2", "ext4", "/boot"),
    ("/dev/sda1", "xfs", "/var/lib/data"),
    ("tmpfs", "tmpfs", "/run"),
    ("tmpfs", "tmpfs", "/run/lock"),
    ("tmpfs", "tmpfs", "/run/user/1000"),
];

const NETCLASS: &str = "address_assign_type carrier carrier_changes_total carrier_down_changes_total \
    carrier_up_changes_total device_id dormant flags iface_id iface_link iface_link_mode info mtu_bytes \
    name_assign_type net_dev_group protocol_type speed_bytes transmit_queue_length up";

const MEMORY: &str = "Active_anon_bytes Active_bytes Active_file_bytes AnonHugePages_bytes \
    AnonPages_bytes Bounce_bytes Buffers_bytes Cached_bytes CommitLimit_bytes Committed_AS_bytes \
    DirectMap1G_bytes DirectMap2M_bytes DirectMap4k_bytes Dirty_bytes FileHugePages_bytes \
    FilePmdMapped_bytes HardwareCorrupted_bytes HugePages_Free HugePages_Rsvd HugePages_Surp \
    HugePages_Total Hugepagesize_bytes Hugetlb_bytes Inactive_anon_bytes Inactive_bytes \
    Inactive_file_bytes KReclaimable_bytes KernelStack_bytes Mapped_bytes MemAvailable_bytes \
    MemFree_bytes MemTotal_bytes Mlocked_bytes NFS_Unstable_bytes PageTables_bytes Percpu_bytes \
    SReclaimable_bytes SUnreclaim_bytes ShmemHugePages_bytes ShmemPmdMapped_bytes Shmem_bytes Slab_bytes \
    SwapCached_bytes SwapFree_bytes SwapTotal_bytes Unevictable_bytes VmallocChunk_bytes \
    VmallocTotal_bytes VmallocUsed_bytes WritebackTmp_bytes Writeback_bytes Zswap_bytes";

const NETSTAT: &str = "Icmp6_InErrors Icmp6_InMsgs Icmp6_OutMsgs Icmp_InErrors Icmp_InMsgs Icmp_OutMsgs \
    Ip6_InOctets Ip6_OutOctets IpExt_InOctets IpExt_OutOctets Ip_Forwarding TcpExt_ListenDrops \
    TcpExt_ListenOverflows TcpExt_SyncookiesFailed TcpExt_SyncookiesRecv TcpExt_SyncookiesSent \
    TcpExt_TCPOFOQueue TcpExt_TCPRcvQDrop TcpExt_TCPSynRetrans TcpExt_TCPTimeouts Tcp_ActiveOpens \
    Tcp_CurrEstab Tcp_InErrs Tcp_InSegs Tcp_OutRsts Tcp_OutSegs Tcp_PassiveOpens Tcp_RetransSegs \
    Udp6_InDatagrams Udp6_InErrors Udp6_NoPorts Udp6_OutDatagrams Udp6_RcvbufErrors Udp6_SndbufErrors \
    UdpLite6_InErrors UdpLite_InErrors Udp_InDatagrams Udp_InErrors Udp_NoPorts Udp_OutDatagrams \
    Udp_RcvbufErrors Udp_SndbufErrors";

const VMSTAT: &str = "oom_kill pgfault pgmajfault pgpgin pgpgout pswpin pswpout";

const TIMEX: &str = "estimated_error_seconds frequency_adjustment_ratio loop_time_constant \
    maxerror_seconds offset_seconds pps_calibration_total pps_error_total pps_frequency_hertz \
    pps_jitter_seconds pps_jitter_total pps_shift_seconds pps_stability_exceeded_total \
    pps_stability_hertz status sync_status tai_offset_seconds tick_seconds";

const STAT: &str = "boot_time_seconds context_switches_total entropy_available_bits \
    entropy_pool_size_bits filefd_allocated filefd_maximum forks_total intr_total procs_blocked \
    procs_running time_seconds time_clocksource_available_info nf_conntrack_entries \
    nf_conntrack_entries_limit";

const SOCKSTAT: &str = "FRAG6_inuse FRAG6_memory FRAG_inuse FRAG_memory RAW6_inuse RAW_inuse TCP6_inuse \
    TCP_alloc TCP_inuse TCP_mem TCP_mem_bytes TCP_orphan TCP_tw UDP6_inuse UDPLITE6_inuse UDPLITE_inuse \
    UDP_inuse UDP_mem UDP_mem_bytes sockets_used";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_moves_like_a_hosts() {
        let mut page = host();
        let ticks = page.ticks(3);
        let values: Vec<Vec<f64>> =
            ticks.iter().map(|tick| tick.iter().flat_map(|batch| batch.values.clone()).collect()).collect();
        let share = |n: usize| n as f64 / values[0].len() as f64;
        let zero = share(values[2].iter().filter(|v| **v == 0.0).count());
        let same = share(values[1].iter().zip(&values[2]).filter(|(a, b)| a == b).count());
        assert!((900..1100).contains(&page.len()), "{} series", page.len());
        assert!((0.39..0.43).contains(&zero), "{zero} zero");
        assert!((0.77..0.81).contains(&same), "{same} unchanged");
    }
}
