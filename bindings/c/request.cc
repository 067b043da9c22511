// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/c/request.h"

#include "bindings/c/options.h"
#include "bindings/c/worker.h"

using penstock::Code;
using penstock::MessagePart;
using penstock::Status;
using penstock::c::guarded;
using penstock::c::null_argument;
using penstock::c::on_worker;

static_assert(PENSTOCK_MAX_ARRAYS == penstock::kMaxMessageParts);
static_assert(PENSTOCK_MAX_HEAD == penstock::kMaxRequestHead);

namespace {

Status check(const penstock_array& array, const char* name) {
  return array.data == nullptr && array.bytes != 0 ? null_argument(name) : Status();
}

std::span<const std::byte> bytes_of(const penstock_array& array) {
  return {static_cast<const std::byte*>(array.data), array.bytes};
}

penstock_array array_of(std::span<const std::byte> bytes) { return {bytes.data(), bytes.size()}; }

// The parts are only ever read.
penstock::Result<std::vector<MessagePart>> parts_of(const penstock_array* arrays, size_t count,
                                                    const std::shared_ptr<const void>& owner) {
  if (arrays == nullptr && count != 0) return null_argument("arrays");
  std::vector<MessagePart> parts;
  for (size_t i = 0; i < count; ++i) {
    PENSTOCK_RETURN_IF_ERROR(check(arrays[i], "an array"));
    auto* const data = static_cast<std::byte*>(const_cast<void*>(arrays[i].data));
    parts.push_back({{data, arrays[i].bytes}, owner});
  }
  return parts;
}

penstock_array part(const std::vector<MessagePart>& parts, size_t index) {
  return index < parts.size() ? array_of(parts[index].bytes) : penstock_array{nullptr, 0};
}

}  // namespace

extern "C" {

int penstock_worker_request(penstock_worker* worker, uint32_t server, uint32_t channel,
                            penstock_array head, const penstock_array* arrays, size_t count,
                            const penstock_place* places, size_t place_count, uint64_t* number) {
  return on_worker(worker, [&](penstock::Worker&) -> Status {
    if (number == nullptr) return null_argument("number");
    if (places == nullptr && place_count != 0) return null_argument("places");
    PENSTOCK_RETURN_IF_ERROR(check(head, "head"));
    if (channel >= penstock::kFirstServiceChannel)
      return {Code::kInvalidArgument, "channels of requests are below 2^31"};
    penstock::Requests::Question question;
    question.server = server;
    question.channel = channel;
    question.head.assign(bytes_of(head).begin(), bytes_of(head).end());
    PENSTOCK_ASSIGN_OR_RETURN(question.parts, parts_of(arrays, count, nullptr));
    for (size_t i = 0; i < place_count; ++i)
      question.places.push_back({static_cast<std::byte*>(places[i].data), places[i].bytes});
    PENSTOCK_ASSIGN_OR_RETURN(*number, worker->requests.ask(std::move(question)));
    return {};
  });
}

int penstock_worker_answer(penstock_worker* worker, uint64_t number, int64_t timeout_ms,
                           penstock_answer** answer) {
  return on_worker(worker, [&](penstock::Worker& self) -> Status {
    if (answer == nullptr) return null_argument("answer");
    PENSTOCK_ASSIGN_OR_RETURN(
        penstock::Answer taken,
        worker->requests.wait(number,
                              penstock::c::deadline_ns(timeout_ms, self.call_deadline_ns())));
    *answer = new penstock_answer{std::move(taken)};
    return {};
  });
}

penstock_array penstock_answer_head(const penstock_answer* answer) {
  return answer == nullptr ? penstock_array{nullptr, 0} : array_of(answer->answer.head);
}

size_t penstock_answer_count(const penstock_answer* answer) {
  return answer == nullptr ? 0 : answer->answer.parts.size();
}

penstock_array penstock_answer_get(const penstock_answer* answer, size_t index) {
  return answer == nullptr ? penstock_array{nullptr, 0} : part(answer->answer.parts, index);
}

void penstock_answer_destroy(penstock_answer* answer) { delete answer; }

int penstock_options_set_handler(penstock_options* options, penstock_handler handler,
                                 void* context) {
  return guarded([&]() -> Status {
    if (options == nullptr) return null_argument("options");
    options->handler = handler;
    options->context = context;
    return {};
  });
}

uint32_t penstock_request_worker(const penstock_request* request) {
  return request == nullptr ? penstock::kAnyRank : request->request.worker();
}

penstock_array penstock_request_head(const penstock_request* request) {
  return request == nullptr ? penstock_array{nullptr, 0} : array_of(request->request.head());
}

size_t penstock_request_count(const penstock_request* request) {
  return request == nullptr ? 0 : request->request.parts().size();
}

penstock_array penstock_request_get(const penstock_request* request, size_t index) {
  return request == nullptr ? penstock_array{nullptr, 0} : part(request->request.parts(), index);
}

int penstock_request_answer(penstock_request* request, penstock_array head,
                            const penstock_array* arrays, size_t count, void (*release)(void*),
                            void* context) {
  return guarded([&]() -> Status {
    if (request == nullptr) return null_argument("request");
    // Also keeps the request's own arrays, which may be among those it is answered with.
    std::shared_ptr<penstock_request> held(request);
    std::shared_ptr<const void> owner(context, [release, held](void* given) {
      if (release != nullptr) release(given);
    });
    PENSTOCK_RETURN_IF_ERROR(check(head, "head"));
    PENSTOCK_ASSIGN_OR_RETURN(auto parts, parts_of(arrays, count, owner));
    return held->request.answer(bytes_of(head), std::move(parts));
  });
}

int penstock_request_fail(penstock_request* request, int status, const char* why) {
  return guarded([&]() -> Status {
    if (request == nullptr) return null_argument("request");
    const std::unique_ptr<penstock_request> held(request);
    if (status <= PENSTOCK_OK || status > PENSTOCK_NOT_FINITE)
      return {Code::kInvalidArgument, "a request fails with a penstock_status other than OK"};
    return held->request.fail({static_cast<Code>(status), why == nullptr ? "" : why});
  });
}
}
