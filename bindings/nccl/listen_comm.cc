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
  if (waiting_ == nullptr) {
    PENSTOCK_ASSIGN_OR_RETURN(waiting_, ReceiveComm::create(device_, token_));
  }
  device_.progress();
  const Status status = waiting_->poll();
  if (waiting_->connected()) {
    std::unique_ptr<ReceiveComm> accepted = std::move(waiting_);
    Result<std::unique_ptr<ReceiveComm>> next = ReceiveComm::create(device_, token_);
    if (next.ok()) waiting_ = std::move(*next);  // else at the next call
    return accepted;
  }
  if (status.ok()) return std::unique_ptr<ReceiveComm>();
  waiting_.reset();  // a peer that broke off while it connected; the next may do better
  return std::unique_ptr<ReceiveComm>();
}

}  // namespace penstock::nccl
