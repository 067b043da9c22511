// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/cpp/publications.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

#include "bindings/c/options.h"
#include "bindings/c/tensor.h"
#include "bindings/c/worker.h"

using penstock::Code;
using penstock::Result;
using penstock::Status;
using penstock::c::null_argument;
using penstock::c::on_worker;

namespace {

constexpr int kMaxDimensions = 8;

// A tensor as publications see it: bytes, and what its elements and shape are.
struct Published {
  std::array<std::int64_t, kMaxDimensions + 1> form{};  // dtype, then the shape
  std::size_t dimensions = 0;
  std::span<std::byte> bytes;

  std::span<const std::byte> form_bytes() const {
    return std::as_bytes(std::span(form).first(1 + dimensions));
  }
};

Result<Published> published_from(const char* name, const DLTensor* tensor) {
  if (name == nullptr) return null_argument("name");
  if (tensor == nullptr) return null_argument("tensor");
  if (tensor->ndim > kMaxDimensions)
    return Status(Code::kUnsupported, fmt::format("\"{}\" has {} dimensions; at most {}", name,
                                                  tensor->ndim, kMaxDimensions));
  Published published;
  PENSTOCK_ASSIGN_OR_RETURN(
      published.bytes,
      penstock::c::bytes_from(fmt::format("publication \"{}\": elements", name), *tensor));
  const DLDataType& type = tensor->dtype;
  published.form[0] = type.code | type.bits << 8 | type.lanes << 16;
  published.dimensions = static_cast<std::size_t>(tensor->ndim);
  for (std::size_t i = 0; i < published.dimensions; ++i) published.form[i + 1] = tensor->shape[i];
  return published;
}

}  // namespace

extern "C" {

int penstock_worker_publish(penstock_worker* worker, const char* name, uint64_t version,
                            const DLTensor* tensor, int64_t timeout_ms) {
  return on_worker(worker, [&](penstock::Worker& self) -> Status {
    PENSTOCK_ASSIGN_OR_RETURN(const Published given, published_from(name, tensor));
    const penstock::PublicationClient client{worker->requests, self};
    return client.publish(name, version, given.form_bytes(), given.bytes,
                          penstock::c::deadline_ns(timeout_ms, self.call_deadline_ns()));
  });
}

int penstock_worker_fetch(penstock_worker* worker, const char* name, uint64_t version,
                          const DLTensor* tensor, int64_t timeout_ms, uint64_t* found) {
  return on_worker(worker, [&](penstock::Worker& self) -> Status {
    if (found == nullptr) return null_argument("found");
    PENSTOCK_ASSIGN_OR_RETURN(const Published wanted, published_from(name, tensor));
    const penstock::PublicationClient client{worker->requests, self};
    PENSTOCK_ASSIGN_OR_RETURN(
        *found, client.fetch(name, version, wanted.form_bytes(), wanted.bytes,
                             penstock::c::deadline_ns(timeout_ms, self.call_deadline_ns())));
    return {};
  });
}

int penstock_worker_withdraw(penstock_worker* worker, const char* name, int64_t timeout_ms) {
  return on_worker(worker, [&](penstock::Worker& self) -> Status {
    if (name == nullptr) return null_argument("name");
    const penstock::PublicationClient client{worker->requests, self};
    return client.withdraw(name, penstock::c::deadline_ns(timeout_ms, self.call_deadline_ns()));
  });
}
}
