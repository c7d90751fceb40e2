// The threads of the kernels, and programs: kernels run one after the other.
#include "runtime.h"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

// -- threads --------------------------------------------------------------------------------------
//
// Whoever is free takes the next task, and the caller waits for tasks that were taken only: a worker
// that the system has not woken yet holds nobody up. A worker looks for work for some time before
// it sleeps: the next kernel of a program follows the last one at once, and waking a thread takes
// longer than a small kernel.

namespace {

constexpr int SPINS = 2000;  // some 100 us

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// While it exists, results on its thread that would be denormal are 0, as with XLA. Gradients of
// what is learned, and slots of weights that stopped moving, shrink into denormal numbers, and
// arithmetic with them takes some hundred times longer.
class FlushedToZero {
  public:
#if defined(__SSE__)
    FlushedToZero() : before_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(before_ | 0x8000); }
    ~FlushedToZero() { __builtin_ia32_ldmxcsr(before_); }

  private:
    unsigned before_;
#elif defined(__aarch64__)
    FlushedToZero() {
        asm volatile("mrs %0, fpcr" : "=r"(before_));
        asm volatile("msr fpcr, %0" : : "r"(before_ | uint64_t(1) << 24));
    }
    ~FlushedToZero() { asm volatile("msr fpcr, %0" : : "r"(before_)); }

  private:
    uint64_t before_;
#endif
};

class Pool {
  public:
    explicit Pool(int workers) {
        for (int i = 0; i < workers; ++i) std::thread([this] { work(); }).detach();
    }

    void run(void (*task)(void*, int64_t), void* context, int64_t count) {
        std::unique_lock<std::mutex> alone(busy_, std::try_to_lock);
        if (!alone.owns_lock()) {  // another thread runs a program: same parts, same results
            for (int64_t i = 0; i < count; ++i) task(context, i);
            return;
        }
        task_ = task;
        context_ = context;
        done_.store(0, std::memory_order_relaxed);
        const uint64_t turn = turn_of(state_.load(std::memory_order_relaxed)) + 1;
        {
            std::lock_guard<std::mutex> lock(sleep_);
            state_.store(turn << 40 | uint64_t(count) << 20, std::memory_order_release);
        }
        if (asleep_.load(std::memory_order_acquire) > 0) wake_.notify_all();
        take(turn);
        while (done_.load(std::memory_order_acquire) < count) relax();
    }

  private:
    // The state in one word, so that it is always read whole: 24 bits of a turn's number, 20 bits
    // of how many tasks it has, 20 bits of the next one.
    static uint64_t turn_of(uint64_t state) { return state >> 40; }

    void take(uint64_t turn) {
        uint64_t state = state_.load(std::memory_order_acquire);
        while (turn_of(state) == (turn & 0xffffff)) {
            const uint64_t count = state >> 20 & 0xfffff, next = state & 0xfffff;
            if (next >= count) return;
            if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) continue;
            task_(context_, int64_t(next));
            done_.fetch_add(1, std::memory_order_acq_rel);
            state = state_.load(std::memory_order_acquire);
        }
    }

    void work() {
        FlushedToZero always;
        for (uint64_t seen = 0;;) {
            int spins = 0;
            while (turn_of(state_.load(std::memory_order_acquire)) == seen) {
                if (++spins < SPINS) {
                    relax();
                    continue;
                }
                std::unique_lock<std::mutex> lock(sleep_);
                asleep_.fetch_add(1, std::memory_order_acq_rel);
                wake_.wait(lock, [&] { return turn_of(state_.load()) != seen; });
                asleep_.fetch_sub(1, std::memory_order_acq_rel);
            }
            seen = turn_of(state_.load(std::memory_order_acquire));
            take(seen);
        }
    }

    void (*task_)(void*, int64_t) = nullptr;
    void* context_ = nullptr;
    std::atomic<uint64_t> state_{0};
    std::atomic<int64_t> done_{0};
    std::atomic<int> asleep_{0};
    std::mutex busy_, sleep_;
    std::condition_variable wake_;
};

Runtime shared;
std::mutex making;
std::atomic<Pool*> pool{nullptr};
std::atomic<pid_t> owner{0};

// A forked child has the memory of its parent but not its threads: it starts its own.
Pool& threads_of_this_process() {
    if (owner.load(std::memory_order_acquire) != getpid()) {
        std::lock_guard<std::mutex> lock(making);
        if (owner.load() != getpid()) {
            pool.store(new Pool(shared.threads - 1));
            owner.store(getpid(), std::memory_order_release);
        }
    }
    return *pool.load();
}

void run_on_threads(void (*task)(void*, int64_t), void* context, int64_t count) {
    threads_of_this_process().run(task, context, count);
}

}  // namespace

EXPORT const Runtime* start(int64_t threads) {
    shared.threads = static_cast<int>(threads);
    shared.run = run_on_threads;
    return &shared;
}

// -- programs -------------------------------------------------------------------------------------

struct Call {
    int (*kernel)(void* const*, const int64_t*, const double*);
    void* const* arrays;
    const int64_t* sizes;
    const double* numbers;
};

// Runs calls [begin, end); returns `end`, or the number of the call that could not go on.
EXPORT int64_t run_program(const Call* calls, int64_t begin, int64_t end) {
    FlushedToZero meanwhile;
    for (int64_t i = begin; i < end; ++i) {
        const Call& c = calls[i];
        if (c.kernel(c.arrays, c.sizes, c.numbers)) return i;
    }
    return end;
}
