// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// The numbers of MXNet's KVStore dialect: heads of commands, and what a data message's command
// integer says.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "kernels/dtype.h"
#include "transport/base/status.h"

namespace penstock::kvserver {

// Heads of simple requests.
enum class Head : int {
  kController = 0,  // MXNet carries a pickled optimizer here; this server reads text
  kSetMultiPrecision = 1,
  kStopServer = 2,
  kSyncMode = 3,
  kSetGradientCompression = 4,
  kSetProfilerParams = 5,
};

enum class RequestType : std::uint8_t { kDefault = 0, kRowSparse = 1, kCompressed = 2 };

enum class ElementType : std::uint8_t {
  kFloat32 = 0,
  kFloat64 = 1,
  kFloat16 = 2,
  kUint8 = 3,
  kInt32 = 4,
  kInt8 = 5,
  kInt64 = 6,
  kBool = 7,
  kInt16 = 8,
  kUint16 = 9,
  kUint32 = 10,
  kUint64 = 11,
  kBfloat16 = 12,
};
inline constexpr int kElementTypes = 13;

struct DataCommand {
  RequestType request = RequestType::kDefault;
  ElementType element = ElementType::kFloat32;
};

// Cantor's pairing of request m and element d: (m+d)(m+d+1)/2 + d. kInvalidArgument for a number
// that is no such pair.
int encode_command(DataCommand command);
Result<DataCommand> decode_command(int number);

std::size_t element_bytes(ElementType element);

// The kernels' name of it: fp32, fp16 and bf16 have one.
std::optional<DType> kernel_dtype(ElementType element);

// to[i] += from[i] in that type; integers wrap, bools are or-ed. Aligned to the element.
void add_elements(ElementType element, void* to, const void* from, std::size_t count);

}  // namespace penstock::kvserver
