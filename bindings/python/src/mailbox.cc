// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/python/src/mailbox.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace penstock::python {
namespace {

// The head of a request: kind, length of the tag, the tag, the note.
enum Kind : unsigned char { kMessage = 1, kGoodbye = 2 };
constexpr std::size_t kPrefix = 2;
constexpr std::size_t kMaxTag = 255;

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// How often a waiting thread looks whether the job has failed.
constexpr milliseconds kLook(50);
// How long destroy() may wait for a call that waits for an answer.
constexpr milliseconds kPiece(100);
// For a goodbye to reach the others; who is not there by then is gone or hangs.
constexpr std::int64_t kGoodbyeMs = 2000;

void check(int status) {
  if (status != PENSTOCK_OK) throw MailboxError(penstock_last_error());
}

struct OptionsHandle {
  explicit OptionsHandle(const Mailbox::Options& given) {
    check(penstock_options_create(&options));
    for (const auto& [name, value] : given)
      check(penstock_options_set(options, name.c_str(), value.c_str()));
  }
  ~OptionsHandle() { penstock_options_destroy(options); }
  penstock_options* options = nullptr;
};

std::string make_head(Kind kind, const std::string& tag, const std::string& note) {
  if (tag.size() > kMaxTag) throw MailboxError("a tag has more than 255 bytes");
  std::string head = {static_cast<char>(kind), static_cast<char>(tag.size())};
  return head + tag + note;
}

void answer(penstock_request* request) {
  (void)penstock_request_answer(request, {nullptr, 0}, nullptr, 0, nullptr, nullptr);
}

void refuse(penstock_request* request, int status, const std::string& why) {
  (void)penstock_request_fail(request, status, why.c_str());
}

// The array of a message; none is one of no bytes.
penstock_array array_of(const penstock_request* request) {
  return penstock_request_count(request) == 0 ? penstock_array{nullptr, 0}
                                              : penstock_request_get(request, 0);
}

std::string rank_name(std::uint32_t rank) { return "rank " + std::to_string(rank); }

}  // namespace

// ---- Receive ------------------------------------------------------------------------------------

Receive::~Receive() {
  {
    std::unique_lock lock(mailbox_.mutex_);
    mailbox_.give_up(*this, lock);
  }
  release();
}

bool Receive::wait(std::int64_t timeout_ms) {
  const auto deadline = Clock::now() + milliseconds(timeout_ms);
  std::unique_lock lock(mailbox_.mutex_);
  while (true) {
    if (state_ == State::kDone) return true;
    if (state_ == State::kFailed || state_ == State::kGivenUp) throw MailboxError(failure_);
    const auto now = Clock::now();
    if (now >= deadline) return false;
    const auto look = std::min(deadline, now + kLook);
    if (changed_.wait_until(lock, look) == std::cv_status::no_timeout) continue;
    lock.unlock();
    const auto why = mailbox_.failure();
    lock.lock();
    if (why && state_ == State::kPosted) mailbox_.fail(*this, *why);
  }
}

penstock_array Receive::array() const {
  const std::lock_guard lock(mailbox_.mutex_);
  return request_ == nullptr ? penstock_array{nullptr, 0} : array_of(request_);
}

void Receive::release() {
  const std::shared_lock use(mailbox_.nodes_);
  penstock_request* request = nullptr;
  {
    const std::lock_guard lock(mailbox_.mutex_);
    mailbox_.holders_.erase(this);
    request = std::exchange(request_, nullptr);
  }
  if (request != nullptr) answer(request);
}

// ---- start and end ------------------------------------------------------------------------------

void Mailbox::destroy() {
  if (worker_ == nullptr && server_ == nullptr && scheduler_ == nullptr) return;
  if (::getpid() != process_) return;  // a fork has none of the threads
  drop_everything();
  const std::unique_lock alone(nodes_);
  {
    const std::lock_guard lock(mutex_);
    for (Receive* holder : std::exchange(holders_, {}))
      answer(std::exchange(holder->request_, nullptr));
  }
  penstock_worker_destroy(std::exchange(worker_, nullptr));
  penstock_server_destroy(std::exchange(server_, nullptr));
  penstock_scheduler_destroy(std::exchange(scheduler_, nullptr));
}

std::string Mailbox::host(const Options& given) {
  process_ = ::getpid();
  const OptionsHandle handle(given);
  check(penstock_scheduler_start(handle.options, &scheduler_));
  return penstock_scheduler_address(scheduler_);
}

void Mailbox::join(const Options& given, std::uint32_t rank, std::uint32_t size) {
  const OptionsHandle handle(given);
  process_ = ::getpid();
  rank_ = rank;
  size_ = size;
  check(penstock_options_set(handle.options, "rank", std::to_string(rank).c_str()));
  check(penstock_options_set_handler(handle.options, &Mailbox::on_request, this));
  check(penstock_server_start(handle.options, &server_));
  check(penstock_worker_start(handle.options, &worker_));
}

void Mailbox::say_goodbye() {
  const std::string head = make_head(kGoodbye, "", "");
  std::vector<std::uint64_t> numbers;
  for (std::uint32_t to = 0; to < size_; ++to) {
    std::uint64_t number = 0;
    const std::shared_lock use(nodes_);
    if (to != rank_ && penstock_worker_request(worker_, to, 0, {head.data(), head.size()}, nullptr,
                                               0, nullptr, 0, &number) == PENSTOCK_OK)
      numbers.push_back(number);
  }
  for (const std::uint64_t number : numbers) (void)sent(number, kGoodbyeMs);
}

void Mailbox::leave() {
  {
    const std::shared_lock use(nodes_);
    if (worker_ == nullptr) return;
  }
  try {
    say_goodbye();
  } catch (const MailboxError&) {
    // Who cannot be told has left or died.
  }
  drop_everything();
  const std::shared_lock use(nodes_);
  (void)penstock_worker_leave(worker_);  // if it fails, so has the group
}

bool Mailbox::linger(std::int64_t timeout_ms) {
  const std::shared_lock use(nodes_);
  if (server_ == nullptr || penstock_server_wait(server_, timeout_ms) == PENSTOCK_TIMEOUT)
    return server_ == nullptr;
  return scheduler_ == nullptr ||
         penstock_scheduler_wait(scheduler_, timeout_ms) != PENSTOCK_TIMEOUT;
}

void Mailbox::drop_everything() {
  const std::shared_lock use(nodes_);
  std::map<std::string, std::list<Arrived>> arrived;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    arrived.swap(arrived_);
    for (auto& [tag, receives] : std::exchange(posted_, {}))
      for (Receive* receive : receives) fail(*receive, "this process has left the group");
  }
  for (auto& [tag, messages] : arrived)
    for (const Arrived& message : messages)
      refuse(message.request, PENSTOCK_CANCELLED, rank_name(rank_) + " has left the group");
}

std::optional<std::string> Mailbox::failure() {
  const std::shared_lock use(nodes_);
  const int status = penstock_server_wait(server_, 0);
  if (status == PENSTOCK_TIMEOUT) return {};
  if (status == PENSTOCK_OK) return "every process has left the group";
  return penstock_last_error();
}

// ---- send ---------------------------------------------------------------------------------------

std::uint64_t Mailbox::send(std::uint32_t to, const std::string& tag, const std::string& note,
                            const void* memory, std::size_t bytes) {
  const std::string head = make_head(kMessage, tag, note);
  const penstock_array array{memory, bytes};
  std::uint64_t number = 0;
  const std::shared_lock use(nodes_);
  check(penstock_worker_request(worker_, to, 0, {head.data(), head.size()}, &array,
                                bytes == 0 ? 0 : 1, nullptr, 0, &number));
  return number;
}

bool Mailbox::sent(std::uint64_t number, std::int64_t timeout_ms) {
  const auto deadline = Clock::now() + milliseconds(timeout_ms);
  while (true) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    const milliseconds piece = std::clamp(left, milliseconds(0), kPiece);
    penstock_answer* taken = nullptr;
    {
      const std::shared_lock use(nodes_);
      const int status = penstock_worker_answer(worker_, number, piece.count(), &taken);
      if (status != PENSTOCK_TIMEOUT) check(status);
    }
    if (taken != nullptr) {
      penstock_answer_destroy(taken);
      return true;
    }
    if (left <= kPiece) return false;
  }
}

// ---- receive ------------------------------------------------------------------------------------

std::unique_ptr<Receive> Mailbox::receive(const std::set<std::uint32_t>& sources,
                                          const std::string& tag, void* memory, std::size_t bytes) {
  std::unique_ptr<Receive> receive(new Receive(*this));
  receive->tag_ = tag;
  receive->sources_ = sources;
  receive->memory_ = static_cast<std::byte*>(memory);
  receive->bytes_ = bytes;
  const std::shared_lock use(nodes_);
  std::unique_lock lock(mutex_);
  if (const auto messages = arrived_.find(tag); messages != arrived_.end()) {
    std::list<Arrived>& list = messages->second;
    const auto message = std::find_if(
        list.begin(), list.end(), [&](const Arrived& one) { return sources.count(one.from) != 0; });
    if (message != list.end()) {
      Arrived taken = std::move(*message);
      list.erase(message);
      if (list.empty()) arrived_.erase(messages);
      deliver(*receive, std::move(taken), lock);
      return receive;
    }
  }
  if (closed_)
    fail(*receive, "this process has left the group");
  else if (std::includes(left_.begin(), left_.end(), sources.begin(), sources.end()))
    fail(*receive, rank_name(*sources.begin()) + " has left the group");
  else
    posted_[tag].push_back(receive.get());
  return receive;
}

void Mailbox::fail(Receive& receive, std::string why) {
  receive.state_ = Receive::State::kFailed;
  receive.failure_ = std::move(why);
  receive.changed_.notify_all();
}

void Mailbox::deliver(Receive& receive, Arrived message, std::unique_lock<std::mutex>& lock) {
  receive.from_ = message.from;
  receive.note_ = std::move(message.note);
  if (receive.memory_ == nullptr) {
    receive.request_ = message.request;
    holders_.insert(&receive);
    receive.state_ = Receive::State::kDone;
    receive.changed_.notify_all();
    return;
  }
  const penstock_array array = array_of(message.request);
  if (array.bytes != receive.bytes_) {
    const std::string why = rank_name(message.from) + " sent " + std::to_string(array.bytes) +
                            " bytes, " + rank_name(rank_) + " expects " +
                            std::to_string(receive.bytes_);
    fail(receive, why);
    refuse(message.request, PENSTOCK_MISMATCH, why);
    return;
  }
  receive.state_ = Receive::State::kCopying;
  lock.unlock();
  if (array.bytes != 0) std::memcpy(receive.memory_, array.data, array.bytes);
  answer(message.request);
  lock.lock();
  receive.state_ = Receive::State::kDone;
  receive.changed_.notify_all();
}

void Mailbox::give_up(Receive& receive, std::unique_lock<std::mutex>& lock) {
  // The memory is being written: that ends soon.
  receive.changed_.wait(lock, [&] { return receive.state_ != Receive::State::kCopying; });
  if (const auto posted = posted_.find(receive.tag_); posted != posted_.end()) {
    posted->second.remove(&receive);
    if (posted->second.empty()) posted_.erase(posted);
  }
  if (receive.state_ == Receive::State::kPosted) receive.state_ = Receive::State::kGivenUp;
}

// ---- the server's handler -----------------------------------------------------------------------

void Mailbox::on_request(penstock_request* request, void* self) {
  auto& mailbox = *static_cast<Mailbox*>(self);
  const penstock_array head = penstock_request_head(request);
  const auto* const bytes = static_cast<const unsigned char*>(head.data);
  if (head.bytes < kPrefix || head.bytes < kPrefix + bytes[1])
    return refuse(request, PENSTOCK_PROTOCOL, "the head of a message is cut off");
  const std::string tag(reinterpret_cast<const char*>(bytes + kPrefix), bytes[1]);
  const std::string note(reinterpret_cast<const char*>(bytes + kPrefix + bytes[1]),
                         head.bytes - kPrefix - bytes[1]);
  if (bytes[0] == kMessage) {
    mailbox.arrived(tag, {penstock_request_worker(request), note, request});
  } else if (bytes[0] == kGoodbye) {
    mailbox.goodbye(penstock_request_worker(request));
    answer(request);
  } else {
    refuse(request, PENSTOCK_PROTOCOL, "no such kind of message");
  }
}

void Mailbox::arrived(const std::string& tag, Arrived message) {
  std::unique_lock lock(mutex_);
  if (closed_) {
    lock.unlock();
    return refuse(message.request, PENSTOCK_CANCELLED, rank_name(rank_) + " has left the group");
  }
  if (const auto posted = posted_.find(tag); posted != posted_.end()) {
    std::list<Receive*>& list = posted->second;
    const auto receive = std::find_if(list.begin(), list.end(), [&](const Receive* one) {
      return one->state_ == Receive::State::kPosted && one->sources_.count(message.from) != 0;
    });
    if (receive != list.end()) {
      Receive& taker = **receive;
      list.erase(receive);
      if (list.empty()) posted_.erase(posted);
      return deliver(taker, std::move(message), lock);
    }
  }
  arrived_[tag].push_back(std::move(message));
}

void Mailbox::goodbye(std::uint32_t from) {
  const std::lock_guard lock(mutex_);
  left_.insert(from);
  for (auto& [tag, receives] : posted_)
    for (Receive* receive : receives)
      if (receive->state_ == Receive::State::kPosted &&
          std::includes(left_.begin(), left_.end(), receive->sources_.begin(),
                        receive->sources_.end()))
        fail(*receive, rank_name(from) + " has left the group");
}

}  // namespace penstock::python
