// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/c/tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <limits>
#include <optional>

#include "bindings/c/error.h"
#include "bindings/c/options.h"
#include "bindings/c/penstock.h"
#include "kernels/codec/codec_text.h"
#include "kernels/optimizer_text.h"

namespace penstock::c {
namespace {

struct Array {
  DType dtype = DType::kFloat32;
  std::vector<std::uint64_t> shape;
  std::span<std::byte> bytes;
};

std::optional<DType> dtype_of(DLDataType type) {
  if (type.lanes != 1) return {};
  if (type.code == kDLFloat && type.bits == 32) return DType::kFloat32;
  if (type.code == kDLFloat && type.bits == 16) return DType::kFloat16;
  if (type.code == kDLBfloat && type.bits == 16) return DType::kBfloat16;
  return {};
}

// Row-major without gaps. The stride of a dimension of one element means nothing.
bool is_contiguous(const DLTensor& tensor) {
  if (tensor.strides == nullptr) return true;
  std::int64_t expected = 1;
  for (int i = tensor.ndim - 1; i >= 0; --i) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

// {shape, 1 for a scalar}, or why it has none.
Result<std::vector<std::uint64_t>> shape_from(const std::string& name, const DLTensor& tensor) {
  if (tensor.ndim < 0 || (tensor.ndim > 0 && tensor.shape == nullptr))
    return Status(Code::kInvalidArgument, fmt::format("{} have no shape", name));
  std::vector<std::uint64_t> shape;
  std::uint64_t elements = 1;
  for (int i = 0; i < tensor.ndim; ++i) {
    const std::int64_t size = tensor.shape[i];
    if (size < 1 ||
        static_cast<std::uint64_t>(size) > std::numeric_limits<std::int64_t>::max() / 16 / elements)
      return Status(Code::kInvalidArgument,
                    fmt::format("{} have {} elements in dimension {}", name, size, i));
    elements *= static_cast<std::uint64_t>(size);
    shape.push_back(static_cast<std::uint64_t>(size));
  }
  if (shape.empty()) shape.push_back(1);
  return shape;
}

Result<Array> array_from(const std::string& name, const DLTensor& tensor) {
  const std::optional<DType> dtype = dtype_of(tensor.dtype);
  if (!dtype)
    return Status(Code::kUnsupported,
                  fmt::format("{} have DLPack's type code {}, {} bits, {} lanes; lend float32, "
                              "float16 or bfloat16",
                              name, tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes));
  Array array;
  array.dtype = *dtype;
  PENSTOCK_ASSIGN_OR_RETURN(array.bytes, bytes_from(name, tensor));
  PENSTOCK_ASSIGN_OR_RETURN(array.shape, shape_from(name, tensor));
  return array;
}

template <std::size_t N>
Status parse_numbers(std::string_view name, std::string_view text, std::array<double, N>& numbers) {
  const char* at = text.data();
  const char* const end = at + text.size();
  for (std::size_t i = 0; i < N; ++i) {
    const auto [stop, error] = std::from_chars(at, end, numbers[i]);
    const bool last = i + 1 == N;
    if (error != std::errc() || (last ? stop != end : stop == end || *stop != ','))
      return {Code::kInvalidArgument,
              fmt::format("{} \"{}\" needs {} numbers with commas between", name, text, N)};
    at = stop + 1;
  }
  return {};
}

Status set_initial(Tensor& tensor, std::string_view value) {
  TensorSpec& spec = tensor.spec;
  const std::string_view kind = value.substr(0, value.find(':'));
  const std::string_view rest = kind.size() < value.size() ? value.substr(kind.size() + 1) : "";
  InitializerSpec initializer;
  if (kind == "worker0" && rest.empty()) {
    spec.from_worker_0 = true;
    return {};
  }
  if (kind == "zeros" && rest.empty()) {
  } else if (kind == "constant") {
    std::array<double, 1> numbers{};
    PENSTOCK_RETURN_IF_ERROR(parse_numbers("initial", rest, numbers));
    initializer = {InitializerSpec::kConstant, numbers[0], 0, 0};
  } else if (kind == "uniform" || kind == "normal") {
    std::array<double, 3> numbers{};
    PENSTOCK_RETURN_IF_ERROR(parse_numbers("initial", rest, numbers));
    if (!(numbers[2] >= 0 && numbers[2] < 9007199254740992.0))  // 2^53: whole numbers are exact
      return {Code::kInvalidArgument, fmt::format("initial \"{}\": the seed is no seed", value)};
    initializer = {kind == "normal" ? InitializerSpec::kNormal : InitializerSpec::kUniform,
                   numbers[0], numbers[1], static_cast<std::uint64_t>(numbers[2])};
  } else {
    return {Code::kInvalidArgument,
            fmt::format("initial is \"{}\", but must be worker0, zeros, constant:A, "
                        "uniform:A,B,SEED or normal:MEAN,DEVIATION,SEED",
                        value)};
  }
  PENSTOCK_RETURN_IF_ERROR(validate(initializer));
  spec.from_worker_0 = false;
  spec.initializer = initializer;
  return {};
}

}  // namespace

Result<std::span<std::byte>> bytes_from(const std::string& name, const DLTensor& tensor) {
  if (tensor.device.device_type != kDLCPU && tensor.device.device_type != kDLCUDAHost)
    return Status(Code::kUnsupported,
                  fmt::format("{} lie on device type {} of DLPack; lend CPU or CUDA-pinned memory",
                              name, static_cast<int>(tensor.device.device_type)));
  const unsigned bits = unsigned{tensor.dtype.bits} * tensor.dtype.lanes;
  if (bits == 0 || bits % 8 != 0 || bits > 128)
    return Status(Code::kUnsupported, fmt::format("{} have elements of {} bits", name, bits));
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<std::uint64_t> shape, shape_from(name, tensor));
  if (!is_contiguous(tensor))
    return Status(Code::kInvalidArgument,
                  fmt::format("{} are strided; lend a contiguous, row-major tensor", name));
  if (tensor.data == nullptr)
    return Status(Code::kInvalidArgument, fmt::format("{} have no memory", name));
  std::uint64_t bytes = bits / 8;
  for (const std::uint64_t size : shape) bytes *= size;
  return std::span(static_cast<std::byte*>(tensor.data) + tensor.byte_offset, bytes);
}

Result<Tensor> tensor_from(Key key, const DLTensor& gradients, const DLTensor& parameters) {
  PENSTOCK_ASSIGN_OR_RETURN(const Array g,
                            array_from(fmt::format("key {}: gradients", key), gradients));
  PENSTOCK_ASSIGN_OR_RETURN(const Array p,
                            array_from(fmt::format("key {}: parameters", key), parameters));
  if (g.shape != p.shape)
    return Status(Code::kInvalidArgument,
                  fmt::format("key {}: gradients have shape [{}], parameters [{}]", key,
                              fmt::join(g.shape, ","), fmt::join(p.shape, ",")));
  Tensor tensor;
  tensor.key = key;
  tensor.spec.shape = g.shape;
  tensor.spec.gradient_dtype = g.dtype;
  tensor.spec.parameter_dtype = p.dtype;
  tensor.gradients = g.bytes;
  tensor.parameters = p.bytes;
  return tensor;
}

Status set_tensor(Tensor& tensor, std::string_view name, std::string_view value) {
  TensorSpec& spec = tensor.spec;
  if (name == "name") {
    spec.name = std::string(value);
  } else if (name == "optimizer") {
    PENSTOCK_ASSIGN_OR_RETURN(spec.optimizer, parse_optimizer_spec(value));
  } else if (name == "reduce") {
    if (value != "mean" && value != "sum")
      return {Code::kInvalidArgument,
              fmt::format("reduce is \"{}\", but must be mean or sum", value)};
    spec.reduce = value == "mean" ? Reduce::kMean : Reduce::kSum;
  } else if (name == "priority") {
    PENSTOCK_ASSIGN_OR_RETURN(const std::int64_t priority,
                              parse_whole(name, value, std::numeric_limits<std::int32_t>::min(),
                                          std::numeric_limits<std::int32_t>::max()));
    spec.priority = static_cast<std::int32_t>(priority);
  } else if (name == "not_finite") {
    const std::optional<NotFinite> policy = parse_not_finite(value);
    if (!policy)
      return {Code::kInvalidArgument,
              fmt::format("not_finite is \"{}\", but must be accept, skip or fail", value)};
    spec.not_finite = *policy;
  } else if (name == "gradient_scale") {
    std::array<double, 1> scale{};
    PENSTOCK_RETURN_IF_ERROR(parse_numbers(name, value, scale));
    spec.gradient_scale = scale[0];
  } else if (name == "codec") {
    PENSTOCK_ASSIGN_OR_RETURN(spec.codec, parse_codec_spec(value));
  } else if (name == "initial") {
    return set_initial(tensor, value);
  } else {
    return {Code::kNotFound,
            fmt::format("no property \"{}\" of a tensor; known: name, optimizer, reduce, priority, "
                        "not_finite, gradient_scale, codec, initial",
                        name)};
  }
  return {};
}

}  // namespace penstock::c

using penstock::c::guarded;
using penstock::c::null_argument;

extern "C" {

int penstock_tensor_create(uint64_t key, const DLTensor* gradients, const DLTensor* parameters,
                           penstock_tensor** tensor) {
  return guarded([&]() -> penstock::Status {
    if (gradients == nullptr) return null_argument("gradients");
    if (parameters == nullptr) return null_argument("parameters");
    if (tensor == nullptr) return null_argument("tensor");
    PENSTOCK_ASSIGN_OR_RETURN(penstock::Tensor made,
                              penstock::c::tensor_from(key, *gradients, *parameters));
    *tensor = new penstock_tensor{std::move(made)};
    return {};
  });
}

int penstock_tensor_set(penstock_tensor* tensor, const char* name, const char* value) {
  return guarded([&]() -> penstock::Status {
    if (tensor == nullptr) return null_argument("tensor");
    if (name == nullptr) return null_argument("name");
    if (value == nullptr) return null_argument("value");
    return penstock::c::set_tensor(tensor->tensor, name, value);
  });
}

void penstock_tensor_destroy(penstock_tensor* tensor) { delete tensor; }
}
