// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// A customer: one end of an application's conversations. Its thread runs the program's handlers and
// callbacks, one at a time and in the order in which messages came; what waits for answers is
// counted here and forgotten when it is complete.
//
// Thread: any, except as said.

#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "bindings/pslite/data_request.h"
#include "engine/runtime/wait_point.h"

namespace penstock::pslite {

class Instance;
class Process;

// Which instances of the process it speaks through.
struct Address {
  int office = -1;  // −1: of the process, whatever it is; else a Role in ps-lite's order
  int instance = 0;
  int app = 0;
  int customer = 0;
};

class Customer {
 public:
  Customer(Process& process, Address address, std::uint64_t value_size,
           const penstock_ps_handlers& handlers);
  ~Customer();  // not on its own thread

  const Address& address() const { return address_; }
  Status start();

  // ---- what the program asks ----
  Result<int> simple_request(int head, std::string_view body, int receiver);
  Status simple_response(int receiver, int customer, int timestamp, int head,
                         std::string_view body);
  Result<int> data_request(const penstock_ps_data_request& request);
  Status data_response(const penstock_ps_data_response& response);
  Status wait(int timestamp);
  void register_buffer(Rank worker, std::uint64_t key, std::span<std::byte> bytes);

  // ---- what the process brings ----
  void arrived(Message&& message);
  void place(int from, const Envelope& envelope, std::span<const std::uint64_t> sizes,
             std::span<MessagePart> parts);
  // Everything that waits ends with the reason. Returns whether anything did.
  bool fail(const Status& why);
  bool idle();  // nothing waits for an answer

 private:
  struct Pending {
    std::size_t missing = 0;  // of a simple request
    std::shared_ptr<DataRequest> data;
  };
  void run();
  void handle(Message& message);
  void on_request(Message& message);
  void on_simple_response(Message& message);
  void on_data_response(Message&& message);
  bool ends_here(const Message& message);
  Status check_data(const Message& message) const;
  void land(Message& message);
  void end(int timestamp, const Status& status);
  int begin(Pending&& pending);

  Process& process_;
  const Address address_;
  const std::uint64_t value_size_;
  const penstock_ps_handlers handlers_;

  WaitPoint queued_;        // something for the thread
  std::mutex queue_mutex_;  // of what follows
  std::deque<Message> queue_;
  bool stop_ = false;

  WaitPoint changed_;  // a request has ended
  std::mutex mutex_;   // of what follows
  int next_timestamp_ = 0;
  std::map<int, Pending> pending_;
  std::map<int, Status> failed_;                                            // until somebody waits
  std::map<std::pair<Rank, std::uint64_t>, std::span<std::byte>> buffers_;  // by worker, key

  std::thread thread_;
};

}  // namespace penstock::pslite
