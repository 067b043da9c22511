// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// This process's part in a job: its nodes, its customers, barriers, and what happens when somebody
// is lost. The one process-wide thing here, because the API that it serves is made of globals.
//
// Threads: any. Locks, in the order in which they may be taken: start_mutex_; customers_mutex_;
// mutex_. None is held while a program's function runs.

#include <condition_variable>
#include <functional>
#include <set>
#include <thread>

#include "bindings/pslite/barrier_book.h"
#include "bindings/pslite/customer.h"
#include "bindings/pslite/instance.h"
#include "bindings/pslite/settings.h"

namespace penstock::pslite {

class Process final : private Postbox {
 public:
  static Process& get();  // never destroyed: threads of the program may outlive main()

  Environment& environment() { return environment_; }

  Status start(int customer, std::optional<Part> part, int rank, bool with_barrier);
  Status finalize(int customer, bool with_barrier);
  void on_exit(std::function<void()> run);
  Result<int> fact(int office, int instance, int fact);
  Status barrier(int office, int instance, int customer, int group);
  std::vector<int> dead_nodes();
  // Ends the process with a sentence, unless the program wants exceptions.
  void fatal(const std::string& why);

  // ---- for customers ----
  Status add(Customer& customer);
  void remove(Customer& customer);
  Result<std::shared_ptr<Instance>> carrier(const Address& address);
  Result<std::vector<int>> members(int receiver);  // a node, or all of the groups
  std::uint32_t servers();
  void refuse(const Address& address, const Message& request, const Status& why);

 private:
  Process();

  struct Ticket {
    bool done = false;
    std::string refused;  // why there can be no barrier
  };
  struct Parked {  // for a customer that is not there yet
    std::shared_ptr<Instance> via;
    Message message;
    TimeNs deadline_ns = 0;
  };

  // process_start.cc
  Status start_first(int customer, std::optional<Part> part, int rank);
  Status start_more(int customer);
  Status start_instances(int customer, int rank);
  NodeOptions node_options(Role role, int rank) const;
  Status run(const std::shared_ptr<Instance>& instance, int rank);
  Status wait_until_running();
  Status wait_for_hellos();
  std::shared_ptr<Instance> make_instance(Role role, int index, int customer);
  void stop_instances();
  void tear_down();
  void drain();
  void watch();
  std::optional<Status> look();

  // process.cc
  void arrived(Instance& instance, Message&& message) override;
  void place(Instance& instance, int from, const Envelope& envelope,
             std::span<const std::uint64_t> sizes, std::span<MessagePart> parts) override;
  void gone(Instance& instance, int id, const Status& reason) override;
  void on_barrier(Instance& instance, const Message& message);
  void release(int ticket, std::string_view why);
  void refuse_barriers(Instance& instance, const std::vector<BarrierBook::Vain>& vain);
  void deliver(Instance& instance, Message&& message);
  Customer* find(const Instance& instance, const Envelope& envelope);
  static bool matches(const Customer& customer, const Instance& instance, int app, int number,
                      bool request);
  std::shared_ptr<Instance> shared(const Instance& instance);
  std::shared_ptr<Instance> find_instance(Role role, int index, int customer);
  Result<std::shared_ptr<Instance>> main_instance(int customer);
  std::vector<std::shared_ptr<Instance>> instances();
  std::vector<int> all_of(int group) const;
  void refuse_late(TimeNs now_ns);
  void lost(const Status& why);

  Environment environment_;
  SystemClock clock_;

  std::mutex start_mutex_;

  std::shared_mutex customers_mutex_;  // of what follows
  std::vector<Customer*> customers_;
  std::deque<Parked> parked_;

  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  enum class Stage { kIdle, kStarting, kRunning, kEnding } stage_ = Stage::kIdle;
  Settings settings_;
  std::vector<std::shared_ptr<Instance>> instances_;
  std::optional<Status> failure_;
  std::map<int, Status> dead_;
  std::set<int> hellos_;
  BarrierBook barriers_;
  int next_ticket_ = 1;
  std::map<int, Ticket> tickets_;
  std::vector<std::function<void()>> exits_;
  bool scheduler_lost_ = false;
  std::uint64_t jobs_ = 0;  // that this process has left
  std::set<int> others_;    // customers beside 0 that have started and not ended
  bool watching_ = false;
  std::thread watcher_;
};

}  // namespace penstock::pslite
