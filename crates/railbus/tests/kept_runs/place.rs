//! The stores that keep runs, each as a place of a test's own that can also be reached past its bus.

use railbus::{Bus, backend::Journal};
use std::sync::Arc;

/// Writes a test on each backend that keeps runs.
macro_rules! on_each_backend {
    ($($name:ident),* $(,)?) => {
        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::place::Place::sqlite()).await;
            })*
        }

        #[cfg(feature = "postgres")]
        mod postgres_queue {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::place::Place::postgres_queue()).await;
            })*
        }
    };
}

pub(crate) use on_each_backend;

/// A store of its own.
pub(crate) enum Place {
    #[cfg(feature = "sqlite")]
    Sqlite(tempfile::TempDir),
    #[cfg(feature = "postgres")]
    PostgresQueue(railbus_testbed::Database<'static>),
}

impl Place {
    #[cfg(feature = "sqlite")]
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn postgres_queue() -> Self {
        use railbus_testbed::Postgres;
        static SERVER: std::sync::LazyLock<Postgres> =
            std::sync::LazyLock::new(|| Postgres::start().unwrap());
        Self::PostgresQueue(SERVER.database().unwrap())
    }

    pub(crate) fn url(&self) -> String {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(folder) => format!("sqlite:{}", folder.path().join("runs.db").display()),
            #[cfg(feature = "postgres")]
            Self::PostgresQueue(database) => database.url("postgres-queue"),
        }
    }

    /// Returns what errors call it.
    pub(crate) fn shown(&self) -> &str {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => "runs.db",
            #[cfg(feature = "postgres")]
            Self::PostgresQueue(database) => database.name(),
        }
    }

    /// Opens it, with settings such as `?retention=1s`.
    pub(crate) async fn bus(&self, settings: &str) -> Bus {
        Bus::open(format!("{}{settings}", self.url())).await.unwrap()
    }

    pub(crate) async fn open(&self) -> (Bus, Arc<dyn Journal>) {
        self.open_with("").await
    }

    pub(crate) async fn open_with(&self, settings: &str) -> (Bus, Arc<dyn Journal>) {
        let bus = self.bus(settings).await;
        let journal = bus.journal().unwrap();
        (bus, journal)
    }

    /// Runs SQL past the bus; `@` stands before each table. Returns the first value of the last row.
    pub(crate) fn sql(&self, statement: &str) -> String {
        match self {
            #[cfg(feature = "sqlite")]
            Self::Sqlite(folder) => {
                let store = rusqlite::Connection::open(folder.path().join("runs.db")).unwrap();
                store.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
                let statement = statement.replace('@', "");
                if !statement.starts_with("SELECT") {
                    store.execute_batch(&statement).unwrap();
                    return String::new();
                }
                let count = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
                store.query_row(&statement, [], count).unwrap().to_string()
            }
            #[cfg(feature = "postgres")]
            Self::PostgresQueue(database) => {
                database.psql(&statement.replace('@', "railbus.")).unwrap()
            }
        }
    }

    pub(crate) fn count(&self, table: &str) -> i64 {
        self.sql(&format!("SELECT count(*) FROM @{table}")).parse().unwrap()
    }

    /// Lets all leases run out, as time would.
    pub(crate) fn expire(&self) {
        self.sql("UPDATE @journal SET until = 0 WHERE state IS NULL");
    }

    /// Refuses every record, whoever writes it, as a store that may not be written any more; or no
    /// longer does.
    pub(crate) fn refuse_records(&self, refuses: bool) {
        let statement = match (self, refuses) {
            #[cfg(feature = "sqlite")]
            (Self::Sqlite(_), true) => {
                "CREATE TRIGGER locked BEFORE INSERT ON journal_records
                 BEGIN SELECT RAISE(ABORT, 'read-only'); END"
            }
            #[cfg(feature = "sqlite")]
            (Self::Sqlite(_), false) => "DROP TRIGGER locked",
            #[cfg(feature = "postgres")]
            (Self::PostgresQueue(_), true) => {
                "ALTER TABLE @journal_records ADD CHECK (false) NOT VALID"
            }
            #[cfg(feature = "postgres")]
            (Self::PostgresQueue(_), false) => {
                "ALTER TABLE @journal_records DROP CONSTRAINT journal_records_check"
            }
        };
        self.sql(statement);
    }
}
