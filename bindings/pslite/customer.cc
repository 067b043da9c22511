// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/customer.h"

#include <fmt/format.h>

#include <cstring>

#include "bindings/pslite/process.h"
#include "transport/base/log.h"

namespace penstock::pslite {
namespace {

// A missed notice would cost this much and no more.
constexpr TimeNs kLongestSleepNs = 200 * kMillisecond;

void release_owner(void* owner) { delete static_cast<std::shared_ptr<const void>*>(owner); }

// For the program, which takes over the owner.
penstock_ps_bytes hand_over(const MessagePart& part) {
  if (part.bytes.empty()) return {};
  return {part.bytes.data(), part.bytes.size(), new std::shared_ptr<const void>(part.owner),
          &release_owner};
}

penstock_ps_message describe(const Message& message) {
  const Envelope& envelope = message.envelope;
  penstock_ps_message out{};
  out.app = envelope.app;
  out.customer = envelope.customer;
  out.timestamp = envelope.timestamp;
  out.sender = message.peer;
  out.head = envelope.head;
  out.push = (envelope.flags & kPush) != 0;
  out.pull = (envelope.flags & kPull) != 0;
  out.value_count = envelope.values;
  return out;
}

// What a program makes in the scheduler, be it a worker's, speaks through the scheduler.
Address settle(Process& process, Address address) {
  const Result<int> scheduler = process.fact(-1, 0, PENSTOCK_PS_IS_SCHEDULER);
  if (scheduler.ok() && *scheduler != 0) address.office = -1;
  return address;
}

}  // namespace

Customer::Customer(Process& process, Address address, std::uint64_t value_size,
                   const penstock_ps_handlers& handlers)
    : process_(process),
      address_(settle(process, address)),
      value_size_(value_size),
      handlers_(handlers) {}

Customer::~Customer() {
  process_.remove(*this);
  {
    const std::lock_guard lock(queue_mutex_);
    stop_ = true;
  }
  queued_.notify();
  if (thread_.joinable()) thread_.join();
  (void)fail({Code::kCancelled, "the customer was destroyed"});
}

Status Customer::start() {
  thread_ = std::thread([this] { run(); });
  Status added = process_.add(*this);
  return added;
}

// ---- requests of the program --------------------------------------------------------------------

int Customer::begin(Pending&& pending) {
  const std::lock_guard lock(mutex_);
  const int timestamp = next_timestamp_++;
  if (pending.missing != 0 || pending.data != nullptr)
    pending_.emplace(timestamp, std::move(pending));
  return timestamp;
}

Result<int> Customer::simple_request(int head, std::string_view body, int receiver) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<Instance> via, process_.carrier(address_));
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<int> ids, process_.members(receiver));
  const int timestamp = begin({ids.size(), nullptr});
  for (const int id : ids) {
    Message message = make(Kind::kRequest, id);
    message.envelope.flags = kSimple;
    message.envelope.app = address_.app;
    message.envelope.customer = address_.customer;
    message.envelope.timestamp = timestamp;
    message.envelope.head = head;
    message.parts = {own(body)};
    if (const Status sent = via->send(std::move(message)); !sent.ok()) {
      end(timestamp, sent);
      return sent;
    }
  }
  return timestamp;
}

Status Customer::simple_response(int receiver, int customer, int timestamp, int head,
                                 std::string_view body) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<Instance> via, process_.carrier(address_));
  Message message = make(Kind::kResponse, receiver);
  message.envelope.flags = kSimple;
  message.envelope.app = address_.app;
  message.envelope.customer = customer;
  message.envelope.timestamp = timestamp;
  message.envelope.head = head;
  message.parts = {own(body)};
  return via->send(std::move(message));
}

Result<int> Customer::data_request(const penstock_ps_data_request& given) {
  auto request = std::make_shared<DataRequest>(given, value_size_);
  PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<Instance> via, process_.carrier(address_));
  int timestamp = 0;
  {
    const std::lock_guard lock(mutex_);
    timestamp = next_timestamp_++;
  }
  PENSTOCK_ASSIGN_OR_RETURN(
      std::vector<Message> messages,
      request->cut(process_.servers(), address_.app, address_.customer, timestamp));
  if (messages.empty()) {
    request->finish(true);
    return timestamp;
  }
  {
    const std::lock_guard lock(mutex_);
    pending_[timestamp].data = std::move(request);
  }
  for (Message& message : messages)
    if (const Status sent = via->send(std::move(message)); !sent.ok()) {
      end(timestamp, sent);
      return sent;
    }
  return timestamp;
}

Status Customer::data_response(const penstock_ps_data_response& given) {
  Message message = make(Kind::kResponse, given.receiver);
  const MessagePart keys = take_over(given.keys);
  message.parts = {take_over(given.vals), take_over(given.lens)};
  message.envelope.flags =
      static_cast<std::uint8_t>((given.push != 0 ? kPush : 0) | (given.pull != 0 ? kPull : 0));
  message.envelope.app = address_.app;
  message.envelope.customer = given.customer;
  message.envelope.timestamp = given.timestamp;
  message.envelope.head = given.head;
  message.envelope.keys = keys.bytes.size() / sizeof(std::uint64_t);
  message.envelope.values = message.parts[0].bytes.size() / std::max<std::uint64_t>(value_size_, 1);
  PENSTOCK_ASSIGN_OR_RETURN(const std::shared_ptr<Instance> via, process_.carrier(address_));
  return via->send(std::move(message));
}

Status Customer::wait(int timestamp) {
  const WaitPoint::Waiting waiting(changed_);
  while (true) {
    const std::uint32_t seen = changed_.sequence();
    {
      const std::lock_guard lock(mutex_);
      if (!pending_.contains(timestamp)) {
        const auto failed = failed_.find(timestamp);
        if (failed == failed_.end()) return {};
        Status status = std::move(failed->second);
        failed_.erase(failed);
        return status;
      }
    }
    if (std::this_thread::get_id() == thread_.get_id())
      return {Code::kInvalidArgument,
              fmt::format("a callback or handler waits for request {}: its answer would come on "
                          "this very thread",
                          timestamp)};
    changed_.wait(seen, kLongestSleepNs);
  }
}

void Customer::register_buffer(Rank worker, std::uint64_t key, std::span<std::byte> bytes) {
  const std::lock_guard lock(mutex_);
  buffers_[{worker, key}] = bytes;
}

bool Customer::fail(const Status& why) {
  std::map<int, Pending> pending;
  {
    const std::lock_guard lock(mutex_);
    pending.swap(pending_);
    for (const auto& [timestamp, entry] : pending) failed_[timestamp] = why;
  }
  changed_.notify();
  return !pending.empty();
}

bool Customer::idle() {
  const std::lock_guard lock(mutex_);
  return pending_.empty();
}

// ---- what comes in ------------------------------------------------------------------------------

void Customer::arrived(Message&& message) {
  if (ends_here(message)) return on_data_response(std::move(message));
  {
    const std::lock_guard lock(queue_mutex_);
    queue_.push_back(std::move(message));
  }
  queued_.notify();
}

// An answer that runs nothing of the program's and moves few bytes ends its request on the thread
// that brings it: one thread less to be woken.
bool Customer::ends_here(const Message& message) {
  if (message.envelope.kind != Kind::kResponse || message.simple()) return false;
  const std::lock_guard lock(mutex_);
  const auto pending = pending_.find(message.envelope.timestamp);
  return pending != pending_.end() && pending->second.data != nullptr &&
         pending->second.data->plain(message);
}

void Customer::run() {
  const WaitPoint::Waiting waiting(queued_);
  while (true) {
    const std::uint32_t seen = queued_.sequence();
    Message message;
    bool found = false;
    {
      const std::lock_guard lock(queue_mutex_);
      if (stop_) return;
      found = !queue_.empty();
      if (found) {
        message = std::move(queue_.front());
        queue_.pop_front();
      }
    }
    if (found)
      handle(message);
    else
      queued_.wait(seen, kLongestSleepNs);
  }
}

void Customer::handle(Message& message) {
  switch (message.envelope.kind) {
    case Kind::kRequest:
      return on_request(message);
    case Kind::kResponse:
      return message.simple() ? on_simple_response(message) : on_data_response(std::move(message));
    case Kind::kFailure:
      return end(message.envelope.timestamp,
                 Status(Code::kInvalidArgument, std::string(message.body())));
    default:
      return;
  }
}

Status Customer::check_data(const Message& message) const {
  const auto& parts = message.parts;
  if (value_size_ == 0 || handlers_.data_request == nullptr)
    return {Code::kInvalidArgument, fmt::format("app {} takes no keys and values", address_.app)};
  if (parts.size() < 2 || parts.size() > kPositions || parts[kKeys].bytes.empty() ||
      parts[kKeys].bytes.size() != message.envelope.keys * sizeof(std::uint64_t) ||
      (parts.size() > kLens &&
       parts[kLens].bytes.size() != message.envelope.keys * sizeof(std::int32_t)))
    return {Code::kProtocol, "a request whose keys and lens make no sense"};
  if (parts[kVals].bytes.size() % value_size_ != 0)
    return {Code::kInvalidArgument,
            fmt::format("{} bytes of values came; a value of app {} has {} here",
                        parts[kVals].bytes.size(), address_.app, value_size_)};
  return {};
}

void Customer::on_request(Message& message) {
  penstock_ps_message out = describe(message);
  if (message.simple()) {
    const std::string_view body = message.body();
    out.body = body.data();
    out.body_size = body.size();
    return handlers_.simple_request(handlers_.context, &out);
  }
  if (const Status sound = check_data(message); !sound.ok())
    return process_.refuse(address_, message, sound);
  land(message);
  out.keys = hand_over(message.parts[kKeys]);
  out.vals = hand_over(message.parts[kVals]);
  if (message.parts.size() > kLens) out.lens = hand_over(message.parts[kLens]);
  handlers_.data_request(handlers_.context, &out);
}

// What was small came elsewhere.
void Customer::land(Message& message) {
  MessagePart& vals = message.parts[kVals];
  if (vals.bytes.empty()) return;
  std::uint64_t key = 0;
  std::memcpy(&key, message.parts[kKeys].bytes.data(), sizeof key);
  const std::lock_guard lock(mutex_);
  const auto buffer = buffers_.find({rank_of(message.peer), key});
  if (buffer == buffers_.end() || buffer->second.size() < vals.bytes.size() ||
      buffer->second.data() == vals.bytes.data())
    return;
  std::memcpy(buffer->second.data(), vals.bytes.data(), vals.bytes.size());
  vals = {buffer->second.first(vals.bytes.size()), nullptr};
}

void Customer::place(int from, const Envelope& envelope, std::span<const std::uint64_t> sizes,
                     std::span<MessagePart> parts) {
  if ((envelope.flags & kSimple) != 0 || sizes.size() < 2) return;
  const std::lock_guard lock(mutex_);
  if (envelope.kind == Kind::kResponse) {
    const auto pending = pending_.find(envelope.timestamp);
    if (pending != pending_.end() && pending->second.data != nullptr)
      parts[kVals - 1].bytes = pending->second.data->place(from, sizes[kVals - 1]);
  } else if (envelope.kind == Kind::kRequest && !buffers_.empty()) {
    const auto buffer = buffers_.find({rank_of(from), envelope.first_key});
    if (buffer != buffers_.end() && buffer->second.size() >= sizes[kVals])
      parts[kVals].bytes = buffer->second.first(sizes[kVals]);
  }
}

void Customer::on_simple_response(Message& message) {
  penstock_ps_message out = describe(message);
  const std::string_view body = message.body();
  out.body = body.data();
  out.body_size = body.size();
  handlers_.simple_response(handlers_.context, &out);
  const std::lock_guard lock(mutex_);
  const auto pending = pending_.find(message.envelope.timestamp);
  if (pending == pending_.end() || pending->second.data != nullptr) return;
  if (--pending->second.missing != 0) return;
  pending_.erase(pending);
  changed_.notify();
}

void Customer::on_data_response(Message&& message) {
  const int timestamp = message.envelope.timestamp;
  std::shared_ptr<DataRequest> request;
  {
    const std::lock_guard lock(mutex_);
    const auto pending = pending_.find(timestamp);
    const int from = message.peer;
    if (pending == pending_.end() || pending->second.data == nullptr ||
        !pending->second.data->answer(std::move(message))) {
      PENSTOCK_LOG_WARN("ps: node {} answered request {} once more than it was asked", from,
                        timestamp);
      return;
    }
    if (!pending->second.data->answered()) return;
    request = pending->second.data;
  }
  Status assembled = request->assemble();
  if (assembled.ok()) request->finish(true);
  end(timestamp, assembled);
}

void Customer::end(int timestamp, const Status& status) {
  Pending pending;
  {
    const std::lock_guard lock(mutex_);
    const auto found = pending_.find(timestamp);
    if (found == pending_.end()) return;
    pending = std::move(found->second);
    pending_.erase(found);
    if (!status.ok()) failed_[timestamp] = status;
  }
  if (!status.ok()) process_.fatal(status.to_string());
  changed_.notify();
}

}  // namespace penstock::pslite
