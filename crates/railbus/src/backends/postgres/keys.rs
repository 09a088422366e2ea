//! The keys of what can be set for a connection.

use crate::options::Setting;

/// What can be set for every backend on PostgreSQL.
pub(in crate::backends) const SERVER: [Setting; 14] = [
    Setting {
        key: "host",
        help: "a name, an address, the folder of a Unix socket, or several, joined by commas (default PGHOST, else localhost)",
    },
    Setting { key: "port", help: "from 1 to 65535 (default PGPORT, else 5432)" },
    Setting { key: "user", help: "who connects (default PGUSER, else this system's user)" },
    Setting { key: "password", help: "their password (default PGPASSWORD)" },
    Setting { key: "database", help: "which database (default PGDATABASE, else the user's name)" },
    Setting {
        key: "tls",
        help: "true: encrypted, and the server proves who it is (sslmode verify-full); false: never (sslmode disable)",
    },
    Setting {
        key: "sslmode",
        help: "disable, allow, prefer, require, verify-ca or verify-full, as psql means them (default PGSSLMODE, else verify-full where tls_ca is set, else prefer)",
    },
    Setting {
        key: "tls_ca",
        help: "a PEM file with the authorities to trust (default those of this system)",
    },
    Setting { key: "tls_cert", help: "a PEM file with this client's certificate" },
    Setting { key: "tls_key", help: "a PEM file with the key of tls_cert" },
    Setting { key: "schema", help: "where its tables are (default railbus)" },
    Setting {
        key: "application_name",
        help: "how the server lists the connections (default railbus)",
    },
    Setting {
        key: "connect_timeout",
        help: "how long connecting may take, and how long work waits for a server that is away (default 10s)",
    },
    Setting {
        key: "statement_timeout",
        help: "how long an answer may take before the connection is given up (default 10s)",
    },
];

/// Joins what all backends on PostgreSQL take and what one takes beside.
pub(in crate::backends) const fn with_server<const N: usize, const ALL: usize>(
    own: [Setting; N],
) -> [Setting; ALL] {
    assert!(ALL == N + SERVER.len(), "the lists must fit");
    let mut all = [SERVER[0]; ALL];
    let mut at = 0;
    while at < ALL {
        all[at] = if at < SERVER.len() { SERVER[at] } else { own[at - SERVER.len()] };
        at += 1;
    }
    all
}
