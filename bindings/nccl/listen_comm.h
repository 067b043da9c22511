// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What listen() makes: a token, and a receiving end that waits for whoever names it. Each
// connection is followed by another end that waits for the same token, as long as this lives.
// Thread: one at a time.

#include <memory>

#include "bindings/nccl/receive_comm.h"

namespace penstock::nccl {

class ListenComm {
 public:
  static Result<std::unique_ptr<ListenComm>> create(NetDevice& device);

  const Token& token() const { return token_; }
  NetDevice& device() const { return device_; }

  // nullptr: nobody yet.
  Result<std::unique_ptr<ReceiveComm>> accept();

 private:
  ListenComm(NetDevice& device, const Token& token) : device_(device), token_(token) {}

  NetDevice& device_;
  const Token token_;
  std::unique_ptr<ReceiveComm> waiting_;
};

}  // namespace penstock::nccl
