//! Which release of which program the server is, and what is known against it.

use super::super::info::Info;
use crate::store::Remark;

/// A program that speaks Redis's protocol, and the oldest release of each of its lines that
/// has the repair of CVE-2025-49844: until then whoever may run a script can take over the
/// server. Later lines have it from the start.
/// See <https://redis.io/blog/security-advisory-cve-2025-49844/> and
/// <https://github.com/valkey-io/valkey/releases>.
struct Program {
    name: &'static str,
    field: &'static str,
    repaired: &'static [[u32; 3]],
}

const VALKEY: Program = Program {
    name: "Valkey",
    field: "valkey_version",
    repaired: &[[7, 2, 11], [8, 0, 6], [8, 1, 4]],
};

const REDIS: Program = Program {
    name: "Redis",
    field: "redis_version",
    repaired: &[[6, 2, 20], [7, 2, 11], [7, 4, 6], [8, 0, 4], [8, 2, 2]],
};

/// The oldest that our scripts run on.
const OLDEST: [u32; 3] = [6, 2, 0];

pub(super) fn remark(info: &Info) -> Remark {
    // Valkey also tells which release of Redis it is compatible with.
    let (program, told) = match (info.text(VALKEY.field), info.text(REDIS.field)) {
        (Some(told), _) => (VALKEY, told),
        (None, Some(told)) => (REDIS, told),
        (None, None) => {
            return Remark::warning("release", "the server does not say which release it is")
                .hint("gpulock is tested on Redis; compatible servers need Lua scripts, streams and `TIME`");
        }
    };
    let name = program.name;
    let Some(release) = read(told) else {
        return Remark::warning(
            "release",
            format!("{name} {told}, of which nothing is known here"),
        );
    };
    if release < OLDEST {
        return Remark::bad("release", format!("{name} {told} is too old"))
            .hint("upgrade to 6.2 or newer");
    }
    let same_line = program.repaired.iter().find(|repaired| repaired[..2] == release[..2]);
    let last_line = program.repaired.last();
    match same_line {
        Some(repaired) if release >= *repaired => Remark::good("release", format!("{name} {told}")),
        Some([major, minor, patch]) => Remark::warning(
            "release",
            format!("{name} {told} has CVE-2025-49844: who may run scripts can take over the server"),
        )
        .hint(format!("upgrade to {major}.{minor}.{patch}; a package of your distribution may have the repair under the old number")),
        None if last_line.is_some_and(|last| release > *last) => {
            Remark::good("release", format!("{name} {told}"))
        }
        None => Remark::warning(
            "release",
            format!("{name} {told} belongs to a line that gets no repairs, such as that of CVE-2025-49844"),
        )
        .hint("upgrade to a line that does; a package of your distribution may have the repairs under the old number"),
    }
}

fn read(told: &str) -> Option<[u32; 3]> {
    let mut numbers = told.split('.').map(|number| number.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Verdict;

    #[test]
    fn releases_are_judged_by_their_line() {
        for (told, verdict) in [
            ("redis_version:6.0.16\r\n", Verdict::Bad),
            ("redis_version:6.2.19\r\n", Verdict::Warning),
            ("redis_version:6.2.20\r\n", Verdict::Good),
            ("redis_version:7.0.15\r\n", Verdict::Warning),
            ("redis_version:8.2.2\r\n", Verdict::Good),
            ("redis_version:8.6.3\r\n", Verdict::Good),
            ("redis_version:7.2.4\r\nvalkey_version:8.1.3\r\n", Verdict::Warning),
            ("redis_version:7.2.4\r\nvalkey_version:9.0.1\r\n", Verdict::Good),
            ("redis_version:odd\r\n", Verdict::Warning),
            ("", Verdict::Warning),
        ] {
            assert_eq!(remark(&Info::new(told.to_owned())).verdict, verdict, "{told}");
        }
    }
}
