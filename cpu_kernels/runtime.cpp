// The threads of the kernels, the BLAS they call, and programs: kernels run one after the other.
#include "runtime.h"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

// -- threads --------------------------------------------------------------------------------------
//
// A worker looks for work for some microseconds before it sleeps: the next kernel of a program
// follows the last one at once, and waking a thread takes longer than a small kernel.

namespace {

constexpr int SPINS = 4000;  // some 50 us

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

class Pool {
  public:
    explicit Pool(int workers) : workers_(workers) {
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
        count_ = count;
        next_.store(0, std::memory_order_relaxed);
        left_.store(workers_, std::memory_order_relaxed);
        {
            std::lock_guard<std::mutex> lock(sleep_);
            turn_.fetch_add(1, std::memory_order_release);
        }
        if (asleep_.load(std::memory_order_acquire) > 0) wake_.notify_all();
        take();
        while (left_.load(std::memory_order_acquire) > 0) relax();
    }

  private:
    void take() {
        for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;)
            task_(context_, i);
    }

    void work() {
        for (uint64_t seen = 0;; ++seen) {
            int spins = 0;
            while (turn_.load(std::memory_order_acquire) == seen) {
                if (++spins < SPINS) {
                    relax();
                    continue;
                }
                std::unique_lock<std::mutex> lock(sleep_);
                asleep_.fetch_add(1, std::memory_order_acq_rel);
                wake_.wait(lock, [&] { return turn_.load(std::memory_order_acquire) != seen; });
                asleep_.fetch_sub(1, std::memory_order_acq_rel);
            }
            take();
            left_.fetch_sub(1, std::memory_order_acq_rel);
        }
    }

    int workers_;
    void (*task_)(void*, int64_t) = nullptr;
    void* context_ = nullptr;
    int64_t count_ = 0;
    std::atomic<int64_t> next_{0};
    std::atomic<int> left_{0}, asleep_{0};
    std::atomic<uint64_t> turn_{0};
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

// -- BLAS -----------------------------------------------------------------------------------------

// CBLAS as NumPy was built with it: sizes are 64 or 32 bits wide.
template <class Int, class T>
using Gemm = void (*)(int, int, int, Int, Int, Int, T, const T*, Int, const T*, Int, T, T*, Int);

void* blas_sgemm = nullptr;
void* blas_dgemm = nullptr;

template <class Int, class T, void** function>
void call_gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, T alpha, const T* a, int64_t lda,
               const T* b, int64_t ldb, T beta, T* c, int64_t ldc) {
    if (m == 0 || n == 0) return;
    if (k == 0) {
        for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j < n; ++j)
                c[i * ldc + j] = beta == T(0) ? T(0) : c[i * ldc + j] * beta;
        return;
    }
    constexpr int ROW_MAJOR = 101, PLAIN = 111, TRANSPOSED = 112;
    reinterpret_cast<Gemm<Int, T>>(*function)(ROW_MAJOR, ta ? TRANSPOSED : PLAIN,
                                              tb ? TRANSPOSED : PLAIN, m, n, k, alpha, a, lda, b,
                                              ldb, beta, c, ldc);
}

}  // namespace

EXPORT const Runtime* start(int64_t threads, void* sgemm, void* dgemm, int64_t wide) {
    blas_sgemm = sgemm;
    blas_dgemm = dgemm;
    shared.threads = static_cast<int>(threads);
    shared.run = run_on_threads;
    shared.sgemm = wide ? call_gemm<int64_t, float, &blas_sgemm> : call_gemm<int, float, &blas_sgemm>;
    shared.dgemm =
        wide ? call_gemm<int64_t, double, &blas_dgemm> : call_gemm<int, double, &blas_dgemm>;
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
    for (int64_t i = begin; i < end; ++i) {
        const Call& c = calls[i];
        if (c.kernel(c.arrays, c.sizes, c.numbers)) return i;
    }
    return end;
}
