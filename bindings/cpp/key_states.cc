// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cpp/key_states.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>

namespace penstock {
namespace {

// The head of a question, and of an answer: there with how wide each plane's elements are behind.
struct Head {
  std::uint64_t key = 0;
  std::uint64_t steps = 0;
  std::uint32_t kind = 0;
  std::uint32_t planes = 0;
};

constexpr std::uint32_t kMaxPlanes = kMaxStatePlanes + 1;
constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 48;  // of a tensor: 2⁵⁰ bytes a plane

std::vector<std::byte> bytes_of(const Head& head, std::span<const std::uint32_t> planes = {}) {
  std::vector<std::byte> bytes(sizeof head + planes.size_bytes());
  std::memcpy(bytes.data(), &head, sizeof head);
  if (!planes.empty()) std::memcpy(bytes.data() + sizeof head, planes.data(), planes.size_bytes());
  return bytes;
}

template <class T>
std::vector<T> values_of(std::span<const std::byte> bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

// Whether the slices have no more elements of this size than there are bytes.
bool fits(const std::vector<SliceRecord>& slices, std::uint64_t element_bytes,
          std::uint64_t bytes) {
  std::uint64_t left = bytes / element_bytes;
  for (const SliceRecord& slice : slices) {
    if (slice.count > left) return false;
    left -= slice.count;
  }
  return true;
}

// An array that the message owns.
template <class T>
MessagePart part_of(std::vector<T> values) {
  auto owned = std::make_shared<std::vector<T>>(std::move(values));
  return {std::as_writable_bytes(std::span(*owned)), owned};
}

}  // namespace

// ---- server -------------------------------------------------------------------------------------

void handle_key_state(Server& server, Request request) {
  using Kind = KeyCopy::Kind;
  Head head;
  const auto& parts = request.parts();
  if (request.head().size() != sizeof head) return (void)request.fail({Code::kProtocol, "no head"});
  std::memcpy(&head, request.head().data(), sizeof head);
  const auto kind = static_cast<Kind>(head.kind);
  if (head.kind > static_cast<std::uint32_t>(Kind::kWrite) ||
      parts.size() != (kind == Kind::kWrite ? 2U : 0U))
    return (void)request.fail(
        {Code::kProtocol, "a request about a key's state that makes no sense"});

  auto copy = std::make_shared<KeyCopy>(kind, head.key);
  copy->steps = head.steps;
  if (kind == Kind::kWrite) {
    copy->slices = values_of<SliceRecord>(parts[0].bytes);
    copy->given = parts[1].bytes;
    if (!fits(copy->slices, sizeof(float), parts[1].bytes.size()))
      return (void)request.fail({Code::kProtocol, "slices longer than what was sent"});
  }
  // The job holds the request, and so what `given` points to, until it is done.
  auto held = std::make_shared<Request>(std::move(request));
  copy->done = [held](KeyCopy& done) {
    if (!done.status.ok()) return (void)held->fail(done.status);
    const Head answer{done.key, done.steps, 0, static_cast<std::uint32_t>(done.plane_bytes.size())};
    std::vector<MessagePart> found;
    if (done.kind != Kind::kWrite) {
      found.push_back(part_of(std::move(done.slices)));
      found.push_back(part_of(std::move(done.bytes)));
    }
    (void)held->answer(bytes_of(answer, done.plane_bytes), std::move(found));
  };
  if (Status started = server.copy_key(std::move(copy)); !started.ok()) (void)held->fail(started);
}

// ---- worker -------------------------------------------------------------------------------------

namespace {

// What one server has.
struct Found {
  std::uint64_t steps = 0;
  std::vector<std::uint32_t> planes;
  std::vector<SliceRecord> slices;
  MessagePart bytes;
};

Result<Found> read_answer(Key key, const Answer& answer) {
  Head head;
  if (answer.head.size() >= sizeof head) std::memcpy(&head, answer.head.data(), sizeof head);
  if (answer.head.size() != sizeof head + head.planes * sizeof(std::uint32_t) ||
      head.planes > kMaxPlanes || answer.parts.size() != 2)
    return Status(Code::kProtocol, fmt::format("an answer about key {} that makes no sense", key));
  return Found{head.steps, values_of<std::uint32_t>(std::span(answer.head).subspan(sizeof head)),
               values_of<SliceRecord>(answer.parts[0].bytes), answer.parts[1]};
}

struct Asking {
  Requests& requests;
  const Worker& worker;
  Key key;
  TimeNs deadline_ns;

  Result<Answer> ask(Rank server, Head head, std::vector<MessagePart> parts) const {
    head.key = key;
    Requests::Question question;
    question.server = server;
    question.channel = kKeyStateChannel;
    question.head = bytes_of(head);
    question.parts = std::move(parts);
    PENSTOCK_ASSIGN_OR_RETURN(const std::uint64_t number, requests.ask(std::move(question)));
    Result<Answer> answer = requests.wait(number, deadline_ns);
    if (!answer.ok()) requests.forget(number);
    return answer;
  }

  // [server]; their slices are the whole tensor, in the same form everywhere.
  Result<std::vector<Found>> find(KeyCopy::Kind kind) const {
    std::vector<Found> all;
    for (Rank server = 0; server < worker.servers(); ++server) {
      PENSTOCK_ASSIGN_OR_RETURN(const Answer answer,
                                ask(server, {key, 0, static_cast<std::uint32_t>(kind), 0}, {}));
      PENSTOCK_ASSIGN_OR_RETURN(Found found, read_answer(key, answer));
      all.push_back(std::move(found));
    }
    return all;
  }
};

// The tensor's elements; the form is that of the first server that has some.
struct Whole {
  std::uint64_t elements = 0;
  std::uint64_t steps = 0;
  std::vector<std::uint32_t> planes;
};

Result<Whole> whole_of(Key key, const std::vector<Found>& all) {
  Whole whole;
  std::vector<SliceRecord> slices;
  for (const Found& found : all) {
    if (found.slices.empty()) continue;
    if (whole.planes.empty()) whole = {0, found.steps, found.planes};
    for (const std::uint32_t bytes : found.planes)
      if (bytes != 4 && bytes != 2)
        return Status(Code::kProtocol, fmt::format("key {}: elements of {} bytes", key, bytes));
    if (found.planes.empty() || found.planes != whole.planes || found.steps != whole.steps)
      return Status(Code::kInvalidArgument,
                    fmt::format("key {}: servers are at steps {} and {}; a round is running", key,
                                whole.steps, found.steps));
    slices.insert(slices.end(), found.slices.begin(), found.slices.end());
  }
  if (slices.empty()) return Status(Code::kNotFound, fmt::format("no server has key {}", key));
  std::sort(slices.begin(), slices.end(),
            [](const SliceRecord& a, const SliceRecord& b) { return a.begin < b.begin; });
  for (const SliceRecord& slice : slices) {
    // The bound keeps sums and byte counts of what a server says from wrapping around.
    if (slice.begin != whole.elements || slice.count > kMaxElements - whole.elements)
      return Status(Code::kProtocol, fmt::format("key {}: the servers' slices do not meet", key));
    whole.elements += slice.count;
  }
  return whole;
}

}  // namespace

Result<KeyState> read_key_state(Requests& requests, const Worker& worker, Key key,
                                TimeNs deadline_ns) {
  const Asking asking{requests, worker, key, deadline_ns};
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<Found> all, asking.find(KeyCopy::Kind::kRead));
  PENSTOCK_ASSIGN_OR_RETURN(const Whole whole, whole_of(key, all));
  const std::uint64_t element_bytes =
      std::accumulate(whole.planes.begin(), whole.planes.end(), std::uint64_t{0});
  for (const Found& found : all)  // before anything is allocated by what they say
    if (!found.slices.empty() && !fits(found.slices, element_bytes, found.bytes.bytes.size()))
      return Status(Code::kProtocol, fmt::format("key {}: a server sent too little", key));
  KeyState state;
  state.steps = whole.steps;
  for (const std::uint32_t bytes : whole.planes)
    state.planes.push_back({bytes, std::vector<std::byte>(whole.elements * bytes)});
  for (const Found& found : all) {
    const std::byte* from = found.bytes.bytes.data();
    for (const SliceRecord& slice : found.slices)
      for (KeyState::Plane& plane : state.planes) {
        std::memcpy(plane.bytes.data() + slice.begin * plane.element_bytes, from,
                    slice.count * plane.element_bytes);
        from += slice.count * plane.element_bytes;
      }
  }
  return state;
}

Status write_key_state(Requests& requests, const Worker& worker, Key key, std::uint64_t steps,
                       std::span<const PlaneView> planes, TimeNs deadline_ns) {
  const Asking asking{requests, worker, key, deadline_ns};
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<Found> all, asking.find(KeyCopy::Kind::kDescribe));
  PENSTOCK_ASSIGN_OR_RETURN(const Whole whole, whole_of(key, all));
  if (planes.size() != whole.planes.size())
    return {Code::kInvalidArgument,
            fmt::format("key {} has {} planes (parameters and state); {} were given", key,
                        whole.planes.size(), planes.size())};
  for (std::size_t i = 0; i < planes.size(); ++i)
    if (planes[i].element_bytes != whole.planes[i] ||
        planes[i].bytes.size() != whole.elements * whole.planes[i])
      return {Code::kInvalidArgument,
              fmt::format("key {}: plane {} has {} elements of {} bytes; {} bytes with elements of "
                          "{} were given",
                          key, i, whole.elements, whole.planes[i], planes[i].bytes.size(),
                          planes[i].element_bytes)};
  for (Rank server = 0; server < all.size(); ++server) {
    const Found& found = all[server];
    if (found.slices.empty()) continue;
    std::vector<std::byte> bytes;
    for (const SliceRecord& slice : found.slices)
      for (const PlaneView& plane : planes) {
        const auto part = plane.bytes.subspan(slice.begin * plane.element_bytes,
                                              slice.count * plane.element_bytes);
        bytes.insert(bytes.end(), part.begin(), part.end());
      }
    const Head head{key, steps, static_cast<std::uint32_t>(KeyCopy::Kind::kWrite), 0};
    PENSTOCK_RETURN_IF_ERROR(
        asking.ask(server, head, {part_of(found.slices), part_of(std::move(bytes))}).status());
  }
  return {};
}

}  // namespace penstock
