// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// What listen() makes: a token, and a receiving end that waits for the one peer that names it. NCCL
// listens once for each connection, so a token serves once. Thread: one at a time.

#include <memory>

#include "bindings/nccl/receive_comm.h"

namespace penstock::nccl {

class ListenComm {
 public:
  static Result<std::unique_ptr<ListenComm>> create(NetDevice& device);

  const Token& token() const { return token_; }
  NetDevice& device() const { return device_; }

  // nullptr: nobody yet. kInvalidArgument once somebody came.
  Result<std::unique_ptr<ReceiveComm>> accept();

 private:
  ListenComm(NetDevice& device, const Token& token) : device_(device), token_(token) {}

  NetDevice& device_;
  const Token token_;
  std::unique_ptr<ReceiveComm> waiting_;
  bool served_ = false;
};

}  // namespace penstock::nccl
