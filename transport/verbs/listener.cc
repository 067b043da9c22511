// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/verbs/listener.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "transport/verbs/queue.h"

namespace penstock::verbs {
namespace {

constexpr int kBacklog = 1'024;

// In a time that does not depend on where they differ.
bool same(const Token& a, const Token& b) {
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace

void refuse(const VerbsApi& api, rdma_cm_id* id, const Status& reason) {
  const auto refusal = encode_refusal(reason);
  (void)api.rdma_reject(id, refusal.data(), static_cast<std::uint8_t>(refusal.size()));
  api.rdma_destroy_id(id);
}

Status Listener::listen(const Rail& rail) {
  ++rails_;
  if (api_.rdma_listen(rail.listening(), kBacklog) == 0) return {};
  return Status::system(fmt::format("listen at {}", rail.address().to_string()), errno);
}

Status Listener::await(const Token& token, VerbsQueue& queue, std::uint64_t serial) {
  MutexLock lock(mutex_);
  for (const Waiting& waiting : waiting_)
    if (same(waiting.token, token))
      return Status(Code::kAlreadyExists, "accept: another endpoint waits for this token");
  waiting_.push_back({token, &queue, serial});
  return {};
}

void Listener::forget(const VerbsQueue& queue, std::uint64_t serial) {
  MutexLock lock(mutex_);
  std::erase_if(waiting_,
                [&](const Waiting& w) { return w.queue == &queue && w.serial == serial; });
}

void Listener::on_request(const CmEvent& request) {
  request.id->context = nullptr;  // it came with the listening id's
  const Result<Greeting> greeting = decode_greeting(request.private_data());
  Status status = greeting.status();
  if (status.ok()) status = match(request.id, *greeting);
  if (!status.ok()) refuse(api_, request.id, status);
}

Status Listener::match(rdma_cm_id* id, const Greeting& greeting) {
  MutexLock lock(mutex_);
  const auto found = std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting& waiting) {
    return same(waiting.token, greeting.token);
  });
  if (found == waiting_.end())
    return Status(Code::kUnauthenticated, "no endpoint waits for this token");
  if (greeting.rail >= rails_) return Status(Code::kNotFound, "there is no such rail here");
  if (greeting.first && found->taken)
    return Status(Code::kUnauthenticated, "this token was used already");
  if (!greeting.first && !found->taken)
    return Status(Code::kProtocol, "a further queue pair comes before the first");
  PENSTOCK_RETURN_IF_ERROR(found->queue->hand_over({found->serial, id, greeting}));
  found->taken = true;
  return {};
}

}  // namespace penstock::verbs
