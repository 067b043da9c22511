// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cpp/requests.h"

#include <fmt/format.h>

#include <chrono>
#include <cstring>

namespace penstock {
namespace {

// What the meta of such a message begins with.
struct Header {
  std::uint64_t number = 0;
  std::uint32_t channel = 0;
  std::uint8_t kind = 0;
  std::uint8_t code = 0;  // of a failure
  std::uint16_t unused = 0;
};
static_assert(sizeof(Header) == kMaxMessageMeta - kMaxRequestHead);

enum Kind : std::uint8_t { kQuestion = 1, kAnswer = 2, kFailure = 3 };

// How often a waiting thread looks whether the worker has failed.
constexpr auto kLook = std::chrono::milliseconds(20);

std::vector<std::byte> make_meta(const Header& header, std::span<const std::byte> head) {
  std::vector<std::byte> meta(sizeof header + head.size());
  std::memcpy(meta.data(), &header, sizeof header);
  if (!head.empty()) std::memcpy(meta.data() + sizeof header, head.data(), head.size());
  return meta;
}

bool read_header(std::span<const std::byte> meta, Header& header) {
  if (meta.size() < sizeof header) return false;
  std::memcpy(&header, meta.data(), sizeof header);
  return true;
}

Status check_head(std::span<const std::byte> head) {
  if (head.size() <= kMaxRequestHead) return {};
  return {Code::kInvalidArgument,
          fmt::format("a head of {} bytes: at most {}", head.size(), kMaxRequestHead)};
}

}  // namespace

// ---- worker -------------------------------------------------------------------------------------

Result<std::uint64_t> Requests::ask(Question question) {
  PENSTOCK_RETURN_IF_ERROR(check_head(question.head));
  if (worker_ == nullptr) return Status(Code::kInvalidArgument, "no worker is attached");
  Header header;
  header.channel = question.channel;
  header.kind = kQuestion;
  {
    const std::lock_guard lock(mutex_);
    header.number = next_++;
    asked_[header.number].places = std::move(question.places);
  }
  OpenMessage message;
  message.meta = make_meta(header, question.head);
  message.parts = std::move(question.parts);
  const Status sent = worker_->send(question.server, question.channel, std::move(message));
  if (sent.ok()) return header.number;
  forget(header.number);
  return sent;
}

void Requests::forget(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  asked_.erase(number);
}

Result<Answer> Requests::take(std::map<std::uint64_t, Asked>::iterator asked) {
  Asked done = std::move(asked->second);
  asked_.erase(asked);
  if (!done.status.ok()) return done.status;
  return std::move(done.answer);
}

Result<Answer> Requests::wait(std::uint64_t number, TimeNs deadline_ns) {
  const SystemClock clock;
  std::unique_lock lock(mutex_);
  while (true) {
    const auto asked = asked_.find(number);
    if (asked == asked_.end())
      return Status(Code::kNotFound, fmt::format("no request {} waits for an answer", number));
    if (asked->second.done) return take(asked);
    if (std::optional<Status> failed = worker_->failure()) return *failed;
    if (clock.now_ns() >= deadline_ns)
      return Status(Code::kTimeout, fmt::format("request {} has no answer yet", number));
    changed_.wait_for(lock, kLook);
  }
}

Result<std::optional<Answer>> Requests::poll(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  const auto asked = asked_.find(number);
  if (asked == asked_.end())
    return Status(Code::kNotFound, fmt::format("no request {} waits for an answer", number));
  if (!asked->second.done) return std::optional<Answer>();
  PENSTOCK_ASSIGN_OR_RETURN(Answer answer, take(asked));
  return std::optional<Answer>(std::move(answer));
}

void Requests::on_open_message(Rank, OpenMessage&& message) {
  Header header;
  if (!read_header(message.meta, header)) return;
  const std::lock_guard lock(mutex_);
  const auto asked = asked_.find(header.number);
  if (asked == asked_.end() || asked->second.done) return;  // forgotten
  const std::span<const std::byte> head = std::span(message.meta).subspan(sizeof header);
  Asked& entry = asked->second;
  entry.done = true;
  if (header.kind == kFailure) {
    const bool known = header.code != 0 && header.code <= static_cast<unsigned>(Code::kNotFinite);
    entry.status = Status(known ? static_cast<Code>(header.code) : Code::kProtocol,
                          std::string(reinterpret_cast<const char*>(head.data()), head.size()));
  } else {
    entry.answer.head.assign(head.begin(), head.end());
    entry.answer.parts = std::move(message.parts);
  }
  changed_.notify_all();
}

void Requests::place_open_message(Rank, std::span<const std::byte> meta,
                                  std::span<const std::uint64_t> sizes,
                                  std::span<MessagePart> parts) {
  Header header;
  if (!read_header(meta, header)) return;
  const std::lock_guard lock(mutex_);
  const auto asked = asked_.find(header.number);
  if (asked == asked_.end()) return;
  const auto& places = asked->second.places;
  for (std::size_t i = 0; i < parts.size() && i < places.size(); ++i)
    if (places[i].size() == sizes[i]) parts[i].bytes = places[i];
}

// ---- server -------------------------------------------------------------------------------------

Request::Request(Request&& other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)),
      worker_(other.worker_),
      message_(std::move(other.message_)) {}

Request::~Request() {
  if (owner_ != nullptr) (void)fail({Code::kCancelled, "the server dropped the request"});
}

std::uint32_t Request::channel() const {
  Header header;
  std::memcpy(&header, message_.meta.data(), sizeof header);
  return header.channel;
}

std::span<const std::byte> Request::head() const {
  return std::span(message_.meta).subspan(sizeof(Header));
}

Status Request::answer(std::span<const std::byte> head, std::vector<MessagePart> parts) {
  PENSTOCK_RETURN_IF_ERROR(check_head(head));
  return send(kAnswer, head, std::move(parts));
}

Status Request::fail(const Status& why) {
  Header header;
  std::memcpy(&header, message_.meta.data(), sizeof header);
  header.code = static_cast<std::uint8_t>(why.ok() ? Code::kCancelled : why.code());
  std::memcpy(message_.meta.data(), &header, sizeof header);
  const std::string& what = why.what();
  return send(kFailure,
              std::as_bytes(std::span(what.data(), std::min(what.size(), kMaxRequestHead))), {});
}

Status Request::send(std::uint8_t kind, std::span<const std::byte> head,
                     std::vector<MessagePart> parts) {
  RequestServer* const owner = std::exchange(owner_, nullptr);
  if (owner == nullptr) return {Code::kInvalidArgument, "a request is answered once"};
  Header header;
  std::memcpy(&header, message_.meta.data(), sizeof header);
  header.kind = kind;
  OpenMessage answer;
  answer.meta = make_meta(header, head);
  answer.parts = std::move(parts);
  return owner->server_->send(worker_, header.channel, std::move(answer));
}

void RequestServer::attach(Server& server) {
  const std::lock_guard lock(mutex_);
  server_ = &server;
  for (auto& [from, message] : std::exchange(early_, {}))
    handler_(Request(*this, from, std::move(message)));
  attached_.store(true, std::memory_order_release);
}

void RequestServer::on_open_message(Rank from, OpenMessage&& message) {
  Header header;
  if (!read_header(message.meta, header) || header.kind != kQuestion) return;
  if (!attached_.load(std::memory_order_acquire)) {
    // The thread that starts the node does not have it in its hands yet.
    const std::lock_guard lock(mutex_);
    if (!attached_.load(std::memory_order_relaxed)) {
      early_.emplace_back(from, std::move(message));
      return;
    }
  }
  handler_(Request(*this, from, std::move(message)));
}

}  // namespace penstock
