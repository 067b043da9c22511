// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Requests: a worker asks a server, a handler there answers, later, from any thread, in any order.
// Both ends are receivers of open messages: give them to NodeOptions::messages, then attach() the
// role. They outlive the node.

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <string>

#include "engine/server/server.h"
#include "engine/worker/worker.h"

namespace penstock {

inline constexpr std::size_t kMaxRequestHead = kMaxMessageMeta - 16;  // bytes
// Channels from here on are for services of ours (publications.h), not for users.
inline constexpr std::uint32_t kFirstServiceChannel = 0x8000'0000;

struct Answer {
  std::vector<std::byte> head;
  std::vector<MessagePart> parts;
};

// The worker's end. Thread: any.
class Requests final : public MessageReceiver {
 public:
  void attach(Worker& worker) { worker_ = &worker; }

  struct Question {
    Rank server = 0;
    std::uint32_t channel = 0;  // requests on one are handled in the order in which they were made
    std::vector<std::byte> head;
    std::vector<MessagePart> parts;            // lent until the answer is taken, or owned
    std::vector<std::span<std::byte>> places;  // [part of the answer]: where large ones land
  };
  // Returns at once, with the number to wait for.
  Result<std::uint64_t> ask(Question question);

  // The answer, once. kTimeout: it may be waited for again. The handler's own failure comes as it
  // was given to Request::fail(); a lost peer as the worker's failure(). kNotFound: no such number.
  Result<Answer> wait(std::uint64_t number, TimeNs deadline_ns);
  // Takes it if it is there. Never blocks.
  Result<std::optional<Answer>> poll(std::uint64_t number);
  // Nobody will wait for it.
  void forget(std::uint64_t number);

 private:
  struct Asked {
    std::vector<std::span<std::byte>> places;
    bool done = false;
    Status status;
    Answer answer;
  };
  void on_open_message(Rank from, OpenMessage&& message) override;
  void place_open_message(Rank from, std::span<const std::byte> meta,
                          std::span<const std::uint64_t> sizes,
                          std::span<MessagePart> parts) override;
  Result<Answer> take(std::map<std::uint64_t, Asked>::iterator asked);

  Worker* worker_ = nullptr;
  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::uint64_t next_ = 1;
  std::map<std::uint64_t, Asked> asked_;
};

class RequestServer;

// One question at the server. Movable; one that is destroyed unanswered fails with kCancelled.
class Request {
 public:
  Request(Request&& other) noexcept;
  Request& operator=(Request&&) = delete;
  ~Request();

  Rank worker() const { return worker_; }
  std::uint32_t channel() const;
  std::span<const std::byte> head() const;
  const std::vector<MessagePart>& parts() const { return message_.parts; }

  // Once; any thread. The parts are lent until the worker has them, or owned.
  Status answer(std::span<const std::byte> head, std::vector<MessagePart> parts);
  Status fail(const Status& why);

 private:
  friend class RequestServer;
  Request(RequestServer& owner, Rank worker, OpenMessage&& message)
      : owner_(&owner), worker_(worker), message_(std::move(message)) {}
  Status send(std::uint8_t kind, std::span<const std::byte> head, std::vector<MessagePart> parts);

  RequestServer* owner_;  // nullptr: answered
  Rank worker_;
  OpenMessage message_;
};

// The server's end. The handler runs on the lane's thread, one call at a time per channel: it
// answers what is quick and moves the rest elsewhere. Requests are answered before the node goes.
class RequestServer final : public MessageReceiver {
 public:
  using Handler = std::function<void(Request request)>;
  explicit RequestServer(Handler handler) : handler_(std::move(handler)) {}
  void attach(Server& server);

 private:
  friend class Request;
  void on_open_message(Rank from, OpenMessage&& message) override;

  const Handler handler_;
  Server* server_ = nullptr;           // written before any handler runs
  std::atomic<bool> attached_{false};  // and nothing is in early_
  std::mutex mutex_;
  std::vector<std::pair<Rank, OpenMessage>> early_;  // came before attach()
};

}  // namespace penstock
