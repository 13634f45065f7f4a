//! Threads that wait for the next piece of work awake, for the short products of decoding.
//!
//! A token is a few hundred products of some tens of microseconds; putting a thread to sleep and
//! waking it costs as much. Workers spin for a moment after each job and sleep only then. One job
//! runs at a time: whoever finds the pool taken, or is inside a pool of one thread, works alone.
//! It knows nothing of what it runs.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;

/// Looks for work this often before sleeping: about a fifth of a millisecond.
const SPINS: usize = 20_000;

/// Keeps the tensor library's own threads away: they too wait awake between pieces of work, and
/// two sets of waiting threads on the same cores cost each a third of its time.
///
/// Is called once, at the very start of a program. What the user has set stays.
pub fn claim_cores() {
    const CANDLE_THREADS: &str = "CANDLE_NUM_THREADS";
    if std::env::var_os(CANDLE_THREADS).is_none() {
        // SAFETY: called before there is a second thread that could read the environment.
        unsafe { std::env::set_var(CANDLE_THREADS, "1") };
    }
}

type Job<'a> = &'a (dyn Fn(usize) + Sync);

/// The job being run. A worker counts itself in before it looks whether the job is still open,
/// and the caller closes the job before it looks whether anyone is in; so none touches a job that
/// is over.
struct Shared {
    job: UnsafeCell<Option<Job<'static>>>,
    n_tasks: AtomicUsize,
    next: AtomicUsize,
    number: AtomicUsize,
    is_open: AtomicBool,
    inside: AtomicUsize,
    failed: AtomicBool,
}

// SAFETY: `job` is written only by the caller that holds `Pool::turn` while no worker is inside,
// and read only by workers that are inside while the job is open.
unsafe impl Sync for Shared {}
// SAFETY: as above; what a job borrows is `Sync`.
unsafe impl Send for Shared {}

struct Worker {
    thread: Thread,
    sleeps: Arc<AtomicBool>,
}

struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    turn: Mutex<()>,
}

/// Calls `task(0..n_tasks)`, each once, on all of this machine's threads.
///
/// # Panics
/// When a task does.
pub(crate) fn run(n_tasks: usize, task: impl Fn(usize) + Sync) {
    if n_tasks < 2 || rayon::current_num_threads() < 2 {
        return (0..n_tasks).for_each(task);
    }
    let pool = POOL.get_or_init(Pool::start);
    match pool.turn.try_lock() {
        Ok(_turn) => pool.share(n_tasks, &task),
        Err(_) => (0..n_tasks).for_each(task),
    }
}

/// How many threads [`run`] uses from here.
pub(crate) fn n_threads() -> usize {
    rayon::current_num_threads()
}

static POOL: OnceLock<Pool> = OnceLock::new();

impl Pool {
    fn start() -> Pool {
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            n_tasks: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            number: AtomicUsize::new(0),
            is_open: AtomicBool::new(false),
            inside: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
        });
        // A machine that grants fewer threads is served by those it grants.
        let workers = (1..n_threads()).filter_map(|_| start_worker(shared.clone())).collect();
        Pool { shared, workers, turn: Mutex::new(()) }
    }

    fn share(&self, n_tasks: usize, job: Job) {
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. No worker is inside, so none reads it meanwhile, and
        // this function returns only after every worker that saw the job has left.
        unsafe { *shared.job.get() = Some(std::mem::transmute::<Job<'_>, Job<'static>>(job)) };
        shared.n_tasks.store(n_tasks, SeqCst);
        shared.next.store(0, SeqCst);
        shared.is_open.store(true, SeqCst);
        shared.number.fetch_add(1, SeqCst);
        for worker in self.workers.iter().filter(|worker| worker.sleeps.load(SeqCst)) {
            worker.thread.unpark();
        }
        // Closed and empty also when a task of this thread panics.
        let _closed = Closed(shared);
        shared.take_tasks(job);
    }
}

struct Closed<'a>(&'a Shared);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        self.0.is_open.store(false, SeqCst);
        let mut n_looks = 0usize;
        while self.0.inside.load(SeqCst) > 0 {
            n_looks += 1;
            // On a machine with other work the worker may need this very core.
            if n_looks > SPINS { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        if self.0.failed.swap(false, SeqCst) && !std::thread::panicking() {
            std::panic::panic_any("a task of the pool panicked");
        }
    }
}

impl Shared {
    fn take_tasks(&self, job: Job) {
        let n_tasks = self.n_tasks.load(SeqCst);
        loop {
            let task = self.next.fetch_add(1, SeqCst);
            if task >= n_tasks {
                return;
            }
            job(task);
        }
    }

    fn help(&self) {
        struct Leave<'a>(&'a Shared);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.failed.store(true, SeqCst);
                }
                self.0.inside.fetch_sub(1, SeqCst);
            }
        }
        self.inside.fetch_add(1, SeqCst);
        let _leave = Leave(self);
        if self.is_open.load(SeqCst) {
            // SAFETY: this thread is inside and the job was open after it entered, so the caller
            // waits for it to leave before the job ends or is replaced.
            if let Some(job) = unsafe { *self.job.get() } {
                self.take_tasks(job);
            }
        }
    }
}

fn start_worker(shared: Arc<Shared>) -> Option<Worker> {
    let sleeps = Arc::new(AtomicBool::new(false));
    let asleep = sleeps.clone();
    let work = move || {
        let mut seen = 0;
        loop {
            seen = wait(&shared, seen, &asleep);
            // A panic is told to the caller; the worker goes on.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| shared.help()));
        }
    };
    let thread = std::thread::Builder::new().name("kernels".into()).spawn(work).ok()?;
    Some(Worker { thread: thread.thread().clone(), sleeps })
}

/// The number of a job later than `seen`, once there is one.
fn wait(shared: &Shared, seen: usize, sleeps: &AtomicBool) -> usize {
    for _ in 0..SPINS {
        let number = shared.number.load(SeqCst);
        if number != seen {
            return number;
        }
        std::hint::spin_loop();
    }
    loop {
        sleeps.store(true, SeqCst);
        let number = shared.number.load(SeqCst);
        if number != seen {
            sleeps.store(false, SeqCst);
            return number;
        }
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_task_runs_once_however_often_and_from_wherever() {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for n_tasks in (0..2000).map(|i| i % 37) {
                        let sum = AtomicU64::new(0);
                        run(n_tasks, |i| {
                            sum.fetch_add(1 << i.min(60), SeqCst);
                        });
                        let expected: u64 = (0..n_tasks).map(|i| 1u64 << i.min(60)).sum();
                        assert_eq!(sum.load(SeqCst), expected);
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        for _ in 0..20 {
            let failed = std::panic::catch_unwind(|| run(8, |i| assert!(i != 5)));
            assert!(failed.is_err());
            let count = AtomicUsize::new(0);
            run(8, |_| {
                count.fetch_add(1, SeqCst);
            });
            assert_eq!(count.load(SeqCst), 8);
        }
    }
}
