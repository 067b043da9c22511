// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/nccl/listen_comm.h"

namespace penstock::nccl {

Result<std::unique_ptr<ListenComm>> ListenComm::create(NetDevice& device) {
  std::unique_ptr<ListenComm> self(new ListenComm(device, random_token()));
  PENSTOCK_ASSIGN_OR_RETURN(self->waiting_, ReceiveComm::create(device, self->token_));
  return self;
}

Result<std::unique_ptr<ReceiveComm>> ListenComm::accept() {
  if (served_)
    return Status(Code::kInvalidArgument, "this listener has had its connection")
        .with_hint("listen once for each connection");
  if (waiting_ == nullptr) {
    PENSTOCK_ASSIGN_OR_RETURN(waiting_, ReceiveComm::create(device_, token_));
  }
  device_.progress();
  const Status status = waiting_->poll();
  served_ = waiting_->connected();
  if (served_) return std::move(waiting_);
  if (!status.ok()) waiting_.reset();  // a peer that broke off while it connected may come again
  return std::unique_ptr<ReceiveComm>();
}

}  // namespace penstock::nccl
