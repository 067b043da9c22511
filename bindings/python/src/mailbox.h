// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Tagged messages between the processes of a group, over requests of the C ABI. Each process runs a
// server and a worker of one job, both with its rank: what it sends is a request of its worker to
// the server of the receiver, whose handler matches it with a receive that was posted, or keeps it
// until one is. The request is answered when the message is taken; until then the memory of the
// sender is lent.
//
// Messages of one sender with one tag are received in the order in which they were sent.

#include <condition_variable>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/c/penstock.h"

namespace penstock::python {

// A failure of the C ABI, in its words.
class MailboxError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Mailbox;

// One message that is expected. Thread: any, but wait() and the memory from one at a time.
class Receive {
 public:
  ~Receive();  // gives up what has not come
  // False: not there within timeout_ms (0: looks once); it may be waited for again.
  bool wait(std::int64_t timeout_ms);
  // Once wait() returned true:
  std::uint32_t from() const { return from_; }
  const std::string& note() const { return note_; }
  // The message itself where it was posted without memory; until release(), the end of *this or
  // Mailbox::destroy().
  penstock_array array() const;
  void release();

 private:
  friend class Mailbox;
  explicit Receive(Mailbox& mailbox) : mailbox_(mailbox) {}

  Mailbox& mailbox_;  // outlives it
  std::string tag_;
  std::set<std::uint32_t> sources_;
  std::byte* memory_ = nullptr;  // nullptr: the request keeps the message
  std::size_t bytes_ = 0;
  // Guarded by the mailbox's mutex:
  enum class State { kPosted, kCopying, kDone, kFailed, kGivenUp } state_ = State::kPosted;
  std::uint32_t from_ = 0;
  std::string note_;
  std::string failure_;
  penstock_request* request_ = nullptr;
  std::condition_variable changed_;
};

// Thread: any after join().
class Mailbox {
 public:
  using Options = std::map<std::string, std::string>;

  Mailbox() = default;
  ~Mailbox() { destroy(); }
  Mailbox(const Mailbox&) = delete;

  // In one process of the group, before the others join: its scheduler. Returns the address.
  std::string host(const Options& options);
  // Starts server and worker `rank`; returns when the group is complete.
  void join(const Options& options, std::uint32_t rank, std::uint32_t size);

  // The number to give to sent(). The memory is lent until sent() says true.
  std::uint64_t send(std::uint32_t to, const std::string& tag, const std::string& note,
                     const void* memory, std::size_t bytes);
  // True once the receiver has taken it.
  bool sent(std::uint64_t number, std::int64_t timeout_ms);

  // The first message with this tag from one of the sources. memory nullptr: of any length;
  // otherwise of exactly `bytes`, and copied there.
  std::unique_ptr<Receive> receive(const std::set<std::uint32_t>& sources, const std::string& tag,
                                   void* memory, std::size_t bytes);

  // Says goodbye: every receive from here fails at the others, and theirs to here. The server stays
  // for those that have not left yet, until linger() returned true, or the group failed.
  void leave();
  bool linger(std::int64_t timeout_ms);
  // Ends the nodes, once the calls under way have noticed. Nobody reads a message any more. Without
  // leave() before, the others take this for a death.
  void destroy();

 private:
  friend class Receive;
  struct Arrived {
    std::uint32_t from;
    std::string note;
    penstock_request* request;
  };

  static void on_request(penstock_request* request, void* self);
  void arrived(const std::string& tag, Arrived message);
  void goodbye(std::uint32_t from);
  // Takes the lock it is given, and comes back with it.
  void deliver(Receive& receive, Arrived message, std::unique_lock<std::mutex>& lock);
  void fail(Receive& receive, std::string why);
  void give_up(Receive& receive, std::unique_lock<std::mutex>& lock);
  void drop_everything();
  void say_goodbye();
  // Why no message will come any more.
  std::optional<std::string> failure();

  std::shared_mutex nodes_;  // shared by who uses them, alone for who ends them; before mutex_
  penstock_scheduler* scheduler_ = nullptr;
  penstock_server* server_ = nullptr;
  penstock_worker* worker_ = nullptr;
  int process_ = 0;
  std::uint32_t rank_ = 0;
  std::uint32_t size_ = 0;

  std::mutex mutex_;  // of what follows
  bool closed_ = false;
  std::set<std::uint32_t> left_;  // ranks that said goodbye
  std::map<std::string, std::list<Arrived>> arrived_;
  std::map<std::string, std::list<Receive*>> posted_;
  std::set<Receive*> holders_;  // of requests
};

}  // namespace penstock::python
