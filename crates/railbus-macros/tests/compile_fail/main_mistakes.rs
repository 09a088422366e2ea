//! `#[railbus::main]` where it does not fit.

mod arguments {
    #[railbus::main]
    async fn main(arguments: Vec<String>) {}
}

mod not_async {
    #[railbus::main]
    fn main() {}
}

mod other_name {
    #[railbus::main]
    async fn run() {}
}

mod flavor {
    #[railbus::main(flavor = "single")]
    async fn main() {}
}

mod unknown {
    #[railbus::main(worker_thread = 2)]
    async fn main() {}
}

mod none {
    #[railbus::main(worker_threads = 0)]
    async fn main() {}
}

mod no_threads {
    #[railbus::main(flavor = "current_thread", worker_threads = 2)]
    async fn main() {}
}

mod returns {
    #[railbus::main]
    async fn main() -> usize {
        1
    }
}

#[railbus::main]
async fn main() -> railbus::Result<()> {
    "1"
}
