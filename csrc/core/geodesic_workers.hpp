// Threads, interruption and memory for the geodesic solvers, which are compiled per instruction
// set: everything here lives in that namespace, and nothing of ours is thrown
// (check_symbols.cmake).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <new>
#include <thread>

#include "common/inline.hpp"
#include "geodesic.hpp"

namespace medkern::MEDKERN_ISA {

// Uninitialised, so that its pages are first touched by the thread that fills them.
template <class T>
class Array {
 public:
  Array() = default;
  explicit Array(int64_t n) : data_(new T[static_cast<size_t>(n)]) {}
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { delete[] data_; }

  T* get() const { return data_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
};

// Why a solve stops early. Only the thread that called the kernel may ask for interrupts.
class Stop {
 public:
  explicit Stop(const Crew& crew)
      : crew_(crew), caller_(std::this_thread::get_id()), asked_(Clock::now()) {}

  bool keep_going() {
    if (status() != GeodesicStatus::done) return false;
    if (std::this_thread::get_id() != caller_) return true;
    const auto now = Clock::now();
    if (now - asked_ < std::chrono::milliseconds(5)) return true;
    asked_ = now;
    if (crew_.interrupted(*crew_.parallel)) fail(GeodesicStatus::interrupted);
    return status() == GeodesicStatus::done;
  }

  void fail(GeodesicStatus why) { status_.store(static_cast<int>(why), std::memory_order_relaxed); }
  GeodesicStatus status() const {
    return static_cast<GeodesicStatus>(status_.load(std::memory_order_relaxed));
  }

 private:
  using Clock = std::chrono::steady_clock;

  const Crew& crew_;
  const std::thread::id caller_;
  Clock::time_point asked_;
  std::atomic<int> status_{static_cast<int>(GeodesicStatus::done)};
};

// Shares tasks out to threads one by one, or runs them here where there is one thread or task.
class Workers {
 public:
  Workers(const Crew& crew, Stop& stop, bool serial)
      : crew_(crew), stop_(stop), threads_(serial ? 1 : crew.threads) {}

  Stop& stop() const { return stop_; }

  // task(i) for all i below `tasks`, or fewer when stopped.
  template <class Task>
  void each(int64_t tasks, const Task& task) const {
    Share<Task> share{task, stop_, tasks, {0}};
    const int64_t threads = tasks < threads_ ? tasks : threads_;
    if (threads > 1) {
      crew_.fork(*crew_.parallel, threads, &Share<Task>::take, &share);
    } else {
      Share<Task>::take(&share);
    }
  }

 private:
  template <class Task>
  struct Share {
    const Task& task;
    Stop& stop;
    const int64_t tasks;
    std::atomic<int64_t> next;

    static void take(void* context) {
      Share& share = *static_cast<Share*>(context);
      try {
        for (int64_t i; (i = share.next.fetch_add(1, std::memory_order_relaxed)) < share.tasks;) {
          if (!share.stop.keep_going()) return;
          share.task(i);
        }
      } catch (const std::bad_alloc&) {
        share.stop.fail(GeodesicStatus::out_of_memory);
      }
    }
  };

  const Crew& crew_;
  Stop& stop_;
  const int64_t threads_;
};

}  // namespace medkern::MEDKERN_ISA
