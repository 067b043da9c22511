// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "transport/base/status.h"

#include <fmt/format.h>

#include <system_error>

namespace penstock {
namespace {
const std::string kEmpty;
}  // namespace

std::string_view code_name(Code code) {
  switch (code) {
    case Code::kOk:
      return "ok";
    case Code::kInvalidArgument:
      return "invalid argument";
    case Code::kNotFound:
      return "not found";
    case Code::kAlreadyExists:
      return "already exists";
    case Code::kMismatch:
      return "mismatch";
    case Code::kTimeout:
      return "timeout";
    case Code::kPeerLost:
      return "peer lost";
    case Code::kConnectionLost:
      return "connection lost";
    case Code::kStale:
      return "stale";
    case Code::kProtocol:
      return "protocol error";
    case Code::kAccess:
      return "access refused";
    case Code::kUnauthenticated:
      return "unauthenticated";
    case Code::kExhausted:
      return "exhausted";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kCancelled:
      return "cancelled";
    case Code::kSystem:
      return "system error";
    case Code::kNotFinite:
      return "not finite";
  }
  return "unknown";
}

Status::Status(Code code, std::string what) {
  CHECK(code != Code::kOk, "an error needs a code: {}", what);
  detail_ = std::make_unique<Detail>(Detail{code, 0, std::move(what), {}, {}});
}

Status::Status(const Status& other)
    : detail_(other.detail_ ? std::make_unique<Detail>(*other.detail_) : nullptr) {}

Status& Status::operator=(const Status& other) {
  if (this != &other) detail_ = other.detail_ ? std::make_unique<Detail>(*other.detail_) : nullptr;
  return *this;
}

Status Status::system(std::string what, int error) {
  Status status(Code::kSystem, std::move(what));
  status.detail_->system = error;
  return status;
}

Status Status::with_peer(std::string peer) && {
  if (detail_) detail_->peer = std::move(peer);
  return std::move(*this);
}

Status Status::with_hint(std::string hint) && {
  if (detail_) detail_->hint = std::move(hint);
  return std::move(*this);
}

Status Status::with_system(int error) && {
  if (detail_) detail_->system = error;
  return std::move(*this);
}

const std::string& Status::what() const { return ok() ? kEmpty : detail_->what; }
const std::string& Status::peer() const { return ok() ? kEmpty : detail_->peer; }
const std::string& Status::hint() const { return ok() ? kEmpty : detail_->hint; }

std::string Status::to_string() const {
  if (ok()) return "ok";
  std::string text = fmt::format("{}: {}", code_name(code()), what());
  if (!peer().empty()) text += fmt::format(" (peer {})", peer());
  if (system_error() != 0)
    text += fmt::format(": {}", std::generic_category().message(system_error()));
  if (!hint().empty()) text += fmt::format("; {}", hint());
  return text;
}

}  // namespace penstock
