//! A member as the engine sees it: it receives, hands out and settles.

use super::{
    held::Lease,
    seat::Seat,
    service::closed,
    settle::{extend_waiting, settle},
};
use crate::{
    backend::{Leased, Settle, Source},
    error::{Error, ErrorKind, Result},
};
use async_trait::async_trait;
use aws_sdk_sqs::types::Message;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// How many requests of one fetch are on their way at once.
const AT_ONCE: usize = 8;

/// How long letting go waits for a request on its way. It is not broken off: what it brings is given
/// back, behind whoever closes.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// How long is waited between requests that don't wait themselves and bring nothing: at first, and at
/// last.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A request on its way.
type Receiving = JoinHandle<Result<Vec<Message>>>;

/// A member of a group.
#[derive(Debug)]
pub(super) struct Member {
    seat: Arc<Seat>,
    stopped: watch::Sender<bool>,
    // Whether the last answer was all that was asked for: then there is more.
    is_full: AtomicBool,
    // Whether any answer came: from then on whatever fails is tried again.
    has_come: AtomicBool,
    fetching: AsyncMutex<Vec<Receiving>>,
}

impl Member {
    pub(super) fn new(seat: Seat) -> Self {
        Self {
            seat: Arc::new(seat),
            stopped: watch::Sender::new(false),
            is_full: AtomicBool::new(false),
            has_come: AtomicBool::new(false),
            fetching: AsyncMutex::default(),
        }
    }

    /// Returns the name of its group.
    pub(super) fn group(&self) -> &str {
        &self.seat.group
    }

    /// Tells whether it was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Starts a request, which goes on whoever waits for it: what comes when nobody wants it any more is
    /// given back.
    fn receive(&self, most: usize, wait: Duration) -> Receiving {
        let (seat, stopped) = (Arc::clone(&self.seat), self.stopped.subscribe());
        let most =
            i32::try_from(most).unwrap_or(i32::MAX).clamp(1, seat.service.settings.max_messages);
        tokio::spawn(async move {
            let came = seat.queue.receive(most, wait, seat.lease).await?;
            if !*stopped.borrow() {
                return Ok(came);
            }
            give_back(&seat, came).await;
            Ok(Vec::new())
        })
    }

    /// Starts as many requests as there is room for.
    fn start(&self, max: usize) -> Vec<Receiving> {
        let settings = &self.seat.service.settings;
        let each = usize::try_from(settings.max_messages).unwrap_or(1);
        if !self.is_full.load(SeqCst) || max <= each {
            return vec![self.receive(max, settings.wait)];
        }
        let counts = (0..max.div_ceil(each).min(AT_ONCE)).map(|n| (max - n * each).min(each));
        // One of them would wait although others bring something.
        counts.map(|count| self.receive(count, Duration::ZERO)).collect()
    }

    /// Waits for the requests on their way; none once it is stopped, or when somebody's turn has come.
    async fn came(&self, receiving: &mut Vec<Receiving>) -> Result<Option<Vec<Message>>> {
        let mut stopped = self.stopped.subscribe();
        let (mut all, mut failed, mut asked, mut answered) = (Vec::new(), None, 0, 0);
        while let Some(first) = receiving.first_mut() {
            let ended = tokio::select! {
                biased;
                ended = first => ended,
                () = self.seat.turn.notified(), if all.is_empty() => return Ok(None),
                _ = stopped.wait_for(|stopped| *stopped), if all.is_empty() => return Ok(None),
            };
            drop(receiving.swap_remove(0));
            asked += 1;
            match ended {
                Ok(Ok(messages)) => {
                    answered += usize::from(!messages.is_empty());
                    all.extend(messages);
                }
                Ok(Err(error)) => failed = Some(error),
                // The runtime ends.
                Err(_) => failed = Some(closed()),
            }
        }
        let each = usize::try_from(self.seat.service.settings.max_messages).unwrap_or(1);
        self.is_full.store(answered == asked && all.len() >= each, SeqCst);
        match failed {
            Some(error) if all.is_empty() => Err(self.lasting(error)),
            _ => {
                self.has_come.store(true, SeqCst);
                Ok(Some(all))
            }
        }
    }

    /// Waits before it is asked again, where requests themselves don't wait; returns for how long to wait
    /// next time.
    async fn pause(&self, pause: Duration) -> Duration {
        if !self.seat.service.settings.wait.is_zero() {
            return pause;
        }
        let mut stopped = self.stopped.subscribe();
        tokio::select! {
            () = sleep(pause) => {}
            () = self.seat.turn.notified() => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        (pause * 2).min(PAUSE_MAX)
    }

    /// Says of an error whether another try may help. Where it once went well, all may be well again:
    /// rights are given back, and credentials renewed.
    fn lasting(&self, error: Error) -> Error {
        let is_over = [ErrorKind::Closed, ErrorKind::NotFound].contains(&error.kind());
        if error.is_retryable() || is_over || !self.has_come.load(SeqCst) {
            return error;
        }
        let why = "SQS refuses now what it allowed before";
        Error::new(ErrorKind::Unavailable, "fetch", why)
            .with("queue", &self.seat.queue.url)
            .because(error)
    }

    /// Returns those whose turn has come, held for long enough.
    async fn next_turns(&self, max: usize) -> Vec<Lease> {
        let mut leases = self.seat.next_turns(max);
        let soon = Instant::now() + self.seat.lease / 2;
        let (mut late, fresh): (Vec<_>, Vec<_>) = leases.drain(..).partition(|l| l.until < soon);
        extend_waiting(&self.seat, &mut late).await;
        leases.extend(fresh);
        for lease in late {
            if lease.until > soon {
                leases.push(lease);
            } else {
                // It comes again, and those behind it after it.
                self.seat.again(&lease).await;
            }
        }
        leases
    }
}

async fn give_back(seat: &Seat, messages: Vec<Message>) {
    let begin = |message| Lease::begin(message, seat.lease, false);
    seat.give_back(messages.into_iter().filter_map(begin).collect()).await;
}

#[async_trait]
impl Source for Member {
    async fn fetch(&self, max: usize) -> Result<Vec<Leased>> {
        let mut receiving = self.fetching.lock().await;
        let mut pause = PAUSE;
        loop {
            if self.is_stopped() {
                return Ok(Vec::new());
            }
            self.seat.service.check_open()?;
            let lost = self.seat.state().held.forget_lost();
            for line in lost {
                let behind = self.seat.state().turns.again(&line);
                self.seat.give_back(behind).await;
            }
            let mut leases = self.next_turns(max).await;
            if leases.is_empty() {
                if receiving.is_empty() {
                    *receiving = self.start(max);
                }
                let Some(messages) = self.came(&mut receiving).await? else { continue };
                if messages.is_empty() {
                    pause = self.pause(pause).await;
                }
                leases = self.seat.come(messages);
            }
            let surplus = leases.split_off(max.min(leases.len()));
            self.seat.state().turns.keep(surplus);
            let leased = self.seat.hand_out(leases).await;
            if !leased.is_empty() {
                return Ok(leased);
            }
        }
    }

    async fn settle(&self, batch: &[Settle]) -> Vec<Result<()>> {
        if let Err(error) = self.seat.service.check_open() {
            return vec![Err(error); batch.len()];
        }
        settle(&self.seat, batch).await
    }

    fn stop(&self) {
        self.stopped.send_replace(true);
    }

    async fn close(&self) -> Result<()> {
        self.stop();
        let waiting = self.seat.state().turns.drain();
        self.seat.give_back(waiting).await;
        let mut receiving = self.fetching.lock().await;
        let until = Instant::now() + LEAVE_WITHIN;
        for mut one in receiving.drain(..) {
            let left = until.saturating_duration_since(Instant::now());
            // Whatever it came to, nobody waits for it any more; it was done before it was stopped if it
            // brings anything.
            if let Ok(Ok(Ok(messages))) = timeout(left, &mut one).await {
                give_back(&self.seat, messages).await;
            }
        }
        Ok(())
    }
}
