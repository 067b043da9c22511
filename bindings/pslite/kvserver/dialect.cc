// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/kvserver/dialect.h"

#include <fmt/format.h>

#include <type_traits>

#include "kernels/math/half.h"

namespace penstock::kvserver {
namespace {

template <class T>
void add_plain(void* to, const void* from, std::size_t count) {
  T* const sum = static_cast<T*>(to);
  const T* const more = static_cast<const T*>(from);
  if constexpr (std::is_integral_v<T>) {
    using Unsigned = std::make_unsigned_t<T>;  // wraps instead of overflowing
    for (std::size_t i = 0; i < count; ++i)
      sum[i] = static_cast<T>(
          static_cast<Unsigned>(static_cast<Unsigned>(sum[i]) + static_cast<Unsigned>(more[i])));
  } else {
    for (std::size_t i = 0; i < count; ++i) sum[i] += more[i];
  }
}

template <float (*Decode)(std::uint16_t), std::uint16_t (*Encode)(float)>
void add_half(void* to, const void* from, std::size_t count) {
  auto* const sum = static_cast<std::uint16_t*>(to);
  const auto* const more = static_cast<const std::uint16_t*>(from);
  for (std::size_t i = 0; i < count; ++i) sum[i] = Encode(Decode(sum[i]) + Decode(more[i]));
}

void or_bools(void* to, const void* from, std::size_t count) {
  auto* const sum = static_cast<std::uint8_t*>(to);
  const auto* const more = static_cast<const std::uint8_t*>(from);
  for (std::size_t i = 0; i < count; ++i) sum[i] = (sum[i] | more[i]) != 0 ? 1 : 0;
}

struct Element {
  std::size_t bytes;
  void (*add)(void* to, const void* from, std::size_t count);
};
constexpr Element kElements[kElementTypes] = {
    {4, &add_plain<float>},
    {8, &add_plain<double>},
    {2, &add_half<&fp16_to_float, &float_to_fp16>},
    {1, &add_plain<std::uint8_t>},
    {4, &add_plain<std::int32_t>},
    {1, &add_plain<std::int8_t>},
    {8, &add_plain<std::int64_t>},
    {1, &or_bools},
    {2, &add_plain<std::int16_t>},
    {2, &add_plain<std::uint16_t>},
    {4, &add_plain<std::uint32_t>},
    {8, &add_plain<std::uint64_t>},
    {2, &add_half<&bf16_to_float, &float_to_bf16>},
};

constexpr std::int64_t triangle(std::int64_t n) { return n * (n + 1) / 2; }

}  // namespace

int encode_command(DataCommand command) {
  const int request = static_cast<int>(command.request);
  const int element = static_cast<int>(command.element);
  return static_cast<int>(triangle(request + element)) + element;
}

Result<DataCommand> decode_command(int number) {
  std::int64_t diagonal = 0;
  const std::int64_t most = kElementTypes + 2;  // no pair of ours is on a later one
  while (diagonal < most && triangle(diagonal + 1) <= number) ++diagonal;
  const std::int64_t element = number - triangle(diagonal);
  const std::int64_t request = diagonal - element;
  if (element < 0 || element >= kElementTypes || request < 0 || request > 2)
    return Status(Code::kInvalidArgument,
                  fmt::format("the command {} of a push or pull is no pair of a request type (0 to "
                              "2) and an element type (0 to {})",
                              number, kElementTypes - 1));
  return DataCommand{static_cast<RequestType>(request), static_cast<ElementType>(element)};
}

std::size_t element_bytes(ElementType element) {
  return kElements[static_cast<std::size_t>(element)].bytes;
}

std::optional<DType> kernel_dtype(ElementType element) {
  switch (element) {
    case ElementType::kFloat32:
      return DType::kFloat32;
    case ElementType::kFloat16:
      return DType::kFloat16;
    case ElementType::kBfloat16:
      return DType::kBfloat16;
    default:
      return std::nullopt;
  }
}

void add_elements(ElementType element, void* to, const void* from, std::size_t count) {
  kElements[static_cast<std::size_t>(element)].add(to, from, count);
}

}  // namespace penstock::kvserver
