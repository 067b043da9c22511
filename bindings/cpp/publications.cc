// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cpp/publications.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace penstock {
namespace {

enum Operation : std::uint8_t { kPublish = 1, kFetch = 2, kWithdraw = 3 };

// A question's head: this, the name, the form.
struct QuestionHeader {
  std::uint64_t version = 0;
  std::uint64_t patience_ns = 0;  // kFetch: how long the asker waits
  std::uint16_t name_bytes = 0;
  std::uint16_t form_bytes = 0;
  std::uint8_t operation = 0;
  std::uint8_t unused[3] = {};
};
static_assert(sizeof(QuestionHeader) == 24);
static_assert(sizeof(QuestionHeader) + kMaxPublicationName + kMaxPublicationForm <=
              kMaxRequestHead);

// FNV-1a, 64 bits: the same in every process.
std::uint64_t hash_of(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace

// ---- server -------------------------------------------------------------------------------------

struct Publications::Question {
  QuestionHeader header;
  std::string name;
  std::span<const std::byte> form;

  // False when no correct worker sends it.
  bool read(std::span<const std::byte> head) {
    if (head.size() < sizeof header) return false;
    std::memcpy(&header, head.data(), sizeof header);
    head = head.subspan(sizeof header);
    if (header.name_bytes == 0 || header.name_bytes > kMaxPublicationName ||
        header.form_bytes > kMaxPublicationForm ||
        head.size() != std::size_t{header.name_bytes} + header.form_bytes)
      return false;
    name.assign(reinterpret_cast<const char*>(head.data()), header.name_bytes);
    form = head.subspan(header.name_bytes);
    return true;
  }
};

void Publications::handle(Request request) {
  Question question;
  if (!question.read(request.head())) {
    (void)request.fail({Code::kProtocol, "a request about publications that cannot be read"});
    return;
  }
  MutexLock lock(mutex_);
  forget_expired();
  if (closed_) {
    (void)request.fail({Code::kCancelled, "the server is ending"});
  } else if (question.header.operation == kPublish) {
    publish(question, request);
  } else if (question.header.operation == kFetch) {
    fetch(question, std::move(request));
  } else if (question.header.operation == kWithdraw) {
    withdraw(question, request);
  } else {
    (void)request.fail({Code::kProtocol, "no such operation on publications"});
  }
}

void Publications::give(const Entry& entry, std::span<const std::byte> form, Request& request) {
  if (!same(entry.form, form)) {
    (void)request.fail({Code::kMismatch, "it was published with another dtype or shape"});
    return;
  }
  (void)request.answer(std::as_bytes(std::span(&entry.version, 1)), entry.parts);
}

void Publications::publish(const Question& question, Request& request) {
  const std::uint64_t version = question.header.version;
  const auto known = entries_.find(question.name);
  if (known != entries_.end() && known->second.version >= version) {
    (void)request.fail({Code::kStale, fmt::format("version {} of \"{}\" is published already",
                                                  known->second.version, question.name)});
    return;
  }
  if (known == entries_.end() && entries_.size() >= kMaxPublications) {
    (void)request.fail({Code::kExhausted, "too many names are published"});
    return;
  }
  Entry& entry = entries_[question.name];
  entry = {version, {question.form.begin(), question.form.end()}, request.parts()};
  const auto [first, last] = held_.equal_range(question.name);
  for (auto held = first; held != last;) {
    if (held->second.version > version) {
      ++held;
      continue;
    }
    give(entry, held->second.form, held->second.request);
    held = held_.erase(held);
  }
  (void)request.answer({}, {});
}

void Publications::fetch(const Question& question, Request&& request) {
  const auto known = entries_.find(question.name);
  if (known != entries_.end() && known->second.version >= question.header.version) {
    give(known->second, question.form, request);
    return;
  }
  if (held_.size() >= kMaxHeldFetches) {
    (void)request.fail({Code::kExhausted, "too many fetches wait here"});
    return;
  }
  const TimeNs now_ns = SystemClock().now_ns();
  const auto most = static_cast<std::uint64_t>(kNever - now_ns);
  Held held{question.header.version,
            now_ns + static_cast<TimeNs>(std::min(question.header.patience_ns, most)),
            {question.form.begin(), question.form.end()},
            std::move(request)};
  held_.emplace(question.name, std::move(held));
}

void Publications::withdraw(const Question& question, Request& request) {
  if (entries_.erase(question.name) == 0)
    (void)request.fail({Code::kNotFound, fmt::format("\"{}\" is not published", question.name)});
  else
    (void)request.answer({}, {});
}

void Publications::forget_expired() {
  const TimeNs now_ns = SystemClock().now_ns();
  std::erase_if(held_, [now_ns](const auto& held) { return held.second.expires_ns < now_ns; });
}

void Publications::close() {
  MutexLock lock(mutex_);
  closed_ = true;
  held_.clear();
}

// ---- worker -------------------------------------------------------------------------------------

namespace {

struct Asking {
  QuestionHeader header;
  std::span<const std::byte> form;
  std::vector<MessagePart> parts;
  std::vector<std::span<std::byte>> places;
};

Result<Answer> ask(const PublicationClient& client, const std::string& name, Asking asking,
                   TimeNs deadline_ns) {
  if (name.empty() || name.size() > kMaxPublicationName)
    return Status(Code::kInvalidArgument,
                  fmt::format("a publication's name has 1 to {} bytes, not {}", kMaxPublicationName,
                              name.size()));
  if (client.worker.servers() == 0)
    return Status(Code::kUnsupported, "this job has no server to publish at");
  CHECK(asking.form.size() <= kMaxPublicationForm, "a form of {} bytes", asking.form.size());
  asking.header.name_bytes = static_cast<std::uint16_t>(name.size());
  asking.header.form_bytes = static_cast<std::uint16_t>(asking.form.size());

  Requests::Question question;
  question.server = static_cast<Rank>(hash_of(name) % client.worker.servers());
  question.channel = kFirstServiceChannel;
  const auto header = std::as_bytes(std::span(&asking.header, 1));
  const auto text = std::as_bytes(std::span(name));
  question.head.assign(header.begin(), header.end());
  question.head.insert(question.head.end(), text.begin(), text.end());
  question.head.insert(question.head.end(), asking.form.begin(), asking.form.end());
  question.parts = std::move(asking.parts);
  question.places = std::move(asking.places);

  PENSTOCK_ASSIGN_OR_RETURN(const std::uint64_t number, client.requests.ask(std::move(question)));
  Result<Answer> answer = client.requests.wait(number, deadline_ns);
  if (!answer.ok()) client.requests.forget(number);
  return answer;
}

}  // namespace

Status PublicationClient::publish(const std::string& name, std::uint64_t version,
                                  std::span<const std::byte> form, std::span<const std::byte> bytes,
                                  TimeNs deadline_ns) const {
  Asking asking;
  asking.header.operation = kPublish;
  asking.header.version = version;
  asking.form = form;
  // Only ever read.
  asking.parts = {{{const_cast<std::byte*>(bytes.data()), bytes.size()}, nullptr}};
  return ask(*this, name, std::move(asking), deadline_ns).status();
}

Result<std::uint64_t> PublicationClient::fetch(const std::string& name, std::uint64_t version,
                                               std::span<const std::byte> form,
                                               std::span<std::byte> bytes,
                                               TimeNs deadline_ns) const {
  Asking asking;
  asking.header.operation = kFetch;
  asking.header.version = version;
  asking.header.patience_ns =
      static_cast<std::uint64_t>(std::max<TimeNs>(0, deadline_ns - SystemClock().now_ns()));
  asking.form = form;
  asking.places = {bytes};
  Result<Answer> answer = ask(*this, name, std::move(asking), deadline_ns);
  if (answer.status().code() == Code::kTimeout)
    return Status(Code::kTimeout,
                  fmt::format("version {} of \"{}\" was not published in time", version, name));
  if (!answer.ok()) return answer.status();
  std::uint64_t found = 0;
  if (answer->head.size() != sizeof found || answer->parts.size() != 1 ||
      answer->parts[0].bytes.size() != bytes.size())
    return Status(Code::kProtocol, fmt::format("the publication \"{}\" has another size", name));
  std::memcpy(&found, answer->head.data(), sizeof found);
  const std::byte* const landed = answer->parts[0].bytes.data();
  if (landed != bytes.data() && !bytes.empty()) std::memcpy(bytes.data(), landed, bytes.size());
  return found;
}

Status PublicationClient::withdraw(const std::string& name, TimeNs deadline_ns) const {
  Asking asking;
  asking.header.operation = kWithdraw;
  return ask(*this, name, std::move(asking), deadline_ns).status();
}

}  // namespace penstock
