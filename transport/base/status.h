// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Errors are values. A `Status` says what kind of failure it was (`code`), what was tried, with
// which peer, what the system answered and how to get out of it. Functions that can fail because of
// the outside world return `Status` or `Result<T>`; a broken invariant of ours is `CHECK`
// (check.h). Thread: values, freely copied. The OK status is a null pointer and costs nothing.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "transport/base/check.h"

namespace penstock {

enum class Code : std::uint8_t {
  kOk = 0,
  kInvalidArgument,  // the caller asked for something that cannot be
  kNotFound,         // the named thing does not exist
  kAlreadyExists,    // the named thing exists already (a rank, a key, a port)
  kMismatch,         // two peers disagree about a key's dtype, shape or options
  kTimeout,          // a deadline passed
  kPeerLost,         // the peer's process is gone or silent for the detection time
  kConnectionLost,   // one connection broke; the peer may live
  kStale,            // an old epoch, incarnation, round or region
  kProtocol,         // bytes from a peer that no correct peer sends
  kAccess,           // outside a region, or a region the peer may not touch
  kUnauthenticated,  // wrong or missing secret or token
  kExhausted,        // a queue, a limit or memory is full
  kUnsupported,      // not available here
  kCancelled,        // ended because the owner closed or left
  kSystem,           // the operating system refused; see `system`
  kNotFinite,        // a NaN or an infinity in a gradient ended the round
};

// "timeout", "peer lost", …
std::string_view code_name(Code code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // OK
  Status(Code code, std::string what);
  Status(const Status& other);
  Status& operator=(const Status& other);
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;

  // A failed system call: `what` was tried, `error` is errno.
  static Status system(std::string what, int error);

  // Each returns the same status with one more fact; no effect on OK.
  Status with_peer(std::string peer) &&;
  Status with_hint(std::string hint) &&;
  Status with_system(int error) &&;  // errno, where the code says more than kSystem would

  bool ok() const { return detail_ == nullptr; }
  Code code() const { return ok() ? Code::kOk : detail_->code; }
  int system_error() const { return ok() ? 0 : detail_->system; }
  const std::string& what() const;
  const std::string& peer() const;
  const std::string& hint() const;

  // One sentence: "<code>: <what> (peer <peer>): <system error>; <hint>".
  std::string to_string() const;

 private:
  struct Detail {
    Code code;
    int system = 0;
    std::string what, peer, hint;
  };
  std::unique_ptr<Detail> detail_;
};

// A value, or the Status that says why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}        // NOLINT: implicit on purpose
  Result(Status status) : state_(std::move(status)) {  // NOLINT: implicit on purpose
    CHECK(!std::get<Status>(state_).ok(), "a Result without a value needs an error");
  }

  bool ok() const { return std::holds_alternative<T>(state_); }
  Status status() const { return ok() ? Status() : std::get<Status>(state_); }
  T& value() & {
    CHECK(ok(), "value() of a failed Result: {}", std::get<Status>(state_).to_string());
    return std::get<T>(state_);
  }
  const T& value() const& {
    CHECK(ok(), "value() of a failed Result: {}", std::get<Status>(state_).to_string());
    return std::get<T>(state_);
  }
  T&& value() && { return std::move(value()); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<T, Status> state_;
};

}  // namespace penstock

#define PENSTOCK_CONCAT_(a, b) a##b
#define PENSTOCK_CONCAT(a, b) PENSTOCK_CONCAT_(a, b)

// Returns the status of `expression` from this function unless it is OK.
#define PENSTOCK_RETURN_IF_ERROR(expression)                                         \
  do {                                                                               \
    if (::penstock::Status returned = (expression); !returned.ok()) return returned; \
  } while (false)

// Declares or assigns `target` from a Result, or returns its status.
#define PENSTOCK_ASSIGN_OR_RETURN(target, expression) \
  PENSTOCK_ASSIGN_OR_RETURN_(PENSTOCK_CONCAT(result_, __LINE__), target, expression)
#define PENSTOCK_ASSIGN_OR_RETURN_(result, target, expression) \
  auto result = (expression);                                  \
  if (!result.ok()) return result.status();                    \
  target = std::move(result).value()
