// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/ucx/worker.h"

#include <algorithm>
#include <cstring>

#include "transport/base/random.h"

namespace penstock::ucx {
namespace {

// Connections that died between the two halves; more are nobody's accident.
constexpr std::uint32_t kMaxSpares = 256;

void on_error(void* argument, ucp_ep_h /*endpoint*/, ucs_status_t status) {
  Line& line = *static_cast<Line*>(argument);
  line.failed = true;
  if (line.owner != nullptr) line.owner->on_line_failed(status);
}

ucs_status_t on_message(void* argument, const void* header, size_t header_length, void* data,
                        size_t length, const ucp_am_recv_param_t* param) {
  FrameHeader frame;
  if (header_length != sizeof frame) return UCS_OK;  // not one of ours
  std::memcpy(&frame, header, sizeof frame);
  return static_cast<FrameSink*>(argument)->on_frame(frame, data, length, param->recv_attr);
}

}  // namespace

Worker::Worker(const Context& context, ucp_worker_h handle)
    : api_(context.api()), handle_(handle), id_(random_u64() | 1U) {}

Result<std::unique_ptr<Worker>> Worker::create(const Context& context, FrameSink& sink) {
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  // One thread at a time, not always the same: deregistration may have to finish a landing.
  params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  ucp_worker_h handle = nullptr;
  const UcpApi& api = context.api();
  const ucs_status_t status = api.ucp_worker_create(context.handle(), &params, &handle);
  if (status != UCS_OK) return ucx_error(api, Code::kSystem, "making a worker", status);
  std::unique_ptr<Worker> worker(new Worker(context, handle));
  PENSTOCK_RETURN_IF_ERROR(worker->set_up(sink));
  return worker;
}

Status Worker::set_up(FrameSink& sink) {
  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                       UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = kMessageId;
  handler.flags = UCP_AM_FLAG_PERSISTENT_DATA;  // messages are lent to their reader in place
  handler.cb = on_message;
  handler.arg = &sink;
  ucs_status_t status = api_.ucp_worker_set_am_recv_handler(handle_, &handler);
  if (status != UCS_OK) return ucx_error(api_, Code::kSystem, "taking messages", status);
  status = api_.ucp_worker_get_efd(handle_, &fd_);
  if (status != UCS_OK)
    return ucx_error(api_, Code::kUnsupported, "no descriptor to sleep on", status)
        .with_hint("leave out the transports without wake-up (see ucx_info -d)");
  ucp_address_t* address = nullptr;
  std::size_t length = 0;
  status = api_.ucp_worker_get_address(handle_, &address, &length);
  if (status != UCS_OK) return ucx_error(api_, Code::kSystem, "asking for its address", status);
  const auto* bytes = reinterpret_cast<const std::byte*>(address);
  address_.assign(bytes, bytes + length);
  api_.ucp_worker_release_address(handle_, address);
  if (length <= kMaxAddressBytes) return {};
  return {Code::kExhausted, "ucx: the address of a worker is too long"};
}

Worker::~Worker() {
  for (Spare& spare : spares_) spare.line->owner = nullptr;
  api_.ucp_worker_destroy(handle_);  // and the lines that are left
}

Result<std::unique_ptr<Line>> Worker::make(std::span<const std::byte> address, LineOwner* owner) {
  auto line = std::make_unique<Line>();
  line->owner = owner;
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLER |
                      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE;
  params.address = reinterpret_cast<const ucp_address_t*>(address.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = on_error;
  params.err_handler.arg = line.get();
  const ucs_status_t status = api_.ucp_ep_create(handle_, &params, &line->endpoint);
  if (status == UCS_OK) return line;
  return ucx_error(api_, Code::kConnectionLost, "connecting", status)
      .with_hint("do both ends name the same transports, and do these reach the peer?");
}

Result<Worker::Numbered> Worker::connect(std::uint64_t id, std::span<const std::byte> address,
                                         LineOwner& owner) {
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<Line> line, make(address, &owner));
  return Numbered{std::move(line), made_[id]++};
}

Result<std::unique_ptr<Line>> Worker::meet(std::uint64_t id, std::span<const std::byte> address,
                                           std::uint32_t index, LineOwner& owner) {
  const auto spare = std::find_if(spares_.begin(), spares_.end(),
                                  [&](const Spare& s) { return s.id == id && s.index == index; });
  if (spare != spares_.end()) {
    std::unique_ptr<Line> line = std::move(spare->line);
    spares_.erase(spare);
    line->owner = &owner;
    if (line->failed) owner.on_line_failed(UCS_ERR_CONNECTION_RESET);
    return line;
  }
  std::uint32_t& made = made_[id];
  if (index < made || index - made > kMaxSpares)
    return Status(Code::kProtocol, "ucx: a connection number that cannot be");
  for (; made < index; ++made) {
    PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<Line> missed, make(address, nullptr));
    keep_spare({id, made, std::move(missed)});
  }
  PENSTOCK_ASSIGN_OR_RETURN(std::unique_ptr<Line> line, make(address, &owner));
  ++made;
  return line;
}

void Worker::keep_spare(Spare spare) {
  if (spares_.size() == kMaxSpares) {
    close(std::move(spares_.front().line));
    spares_.erase(spares_.begin());
  }
  spares_.push_back(std::move(spare));
}

void Worker::leave(std::unique_ptr<Line> line) {
  line->owner = nullptr;
  keep_spare({.id = 0, .index = 0, .line = std::move(line)});  // no peer has that number
}

void Worker::close(std::unique_ptr<Line> line) {
  line->owner = nullptr;
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  const ucs_status_ptr_t request = api_.ucp_ep_close_nbx(line->endpoint, &param);
  if (UCS_PTR_IS_PTR(request)) api_.ucp_request_free(request);  // finishes by itself
}

}  // namespace penstock::ucx
