// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/micro/codec_ratios.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bench/kernels/ratios.h"
#include "kernels/codec/codec_text.h"
#include "kernels/initializer.h"
#include "transport/base/check.h"
#include "transport/base/host_memory.h"

namespace penstock::bench {
namespace {

constexpr std::size_t kWindows = 16;
constexpr std::uint32_t kWorkers = 8;
constexpr std::size_t kCachedElements = 64U << 10;  // a slice of 256 KiB

// One way to send gradients; kNone stands for bf16.
struct Way {
  CodecSpec codec;
  std::string name;
  std::vector<HostMemory> gradients;            // [worker], encoded window by window
  std::vector<double> fused, cached, streamed;  // elements a second, a round each
};

HostMemory memory_of(std::size_t bytes) {
  Result<HostMemory> memory = HostMemory::allocate(bytes);
  CHECK(memory.ok(), "{}", memory.status().to_string());
  return std::move(*memory);
}

struct Arrays {
  explicit Arrays(std::size_t count)
      : elements(count),
        window(count / kWindows),
        gradient(memory_of(count * sizeof(float))),
        residual(memory_of(count * sizeof(float))),
        parameters(memory_of(count * sizeof(float))),
        first(memory_of(count * sizeof(float))),
        second(memory_of(count * sizeof(float))),
        wire(memory_of(count * sizeof(float))) {
    initialize({InitializerSpec::kUniform, -0.1, 0.1, 1}, 1, 0, {gradient.as<float>(), count});
  }
  std::size_t elements, window;
  HostMemory gradient, residual, parameters, first, second, wire;
};

void encode(const Way& way, const float* gradient, float* residual, void* out, std::size_t count) {
  if (way.codec.kind == CodecKind::kNone)
    best_kernels().encode(gradient, out, DType::kBfloat16, count);
  else
    best_kernels().codecs->encode(way.codec, gradient, residual, out, count);
}

std::size_t window_bytes(const Way& way, const Arrays& arrays) {
  if (way.codec.kind == CodecKind::kNone) return arrays.window * dtype_bytes(DType::kBfloat16);
  return (encoded_bytes(way.codec, arrays.window) + 63) / 64 * 64;
}

Way make_way(const CodecSpec& codec, std::string name, Arrays& arrays) {
  Way way{codec, std::move(name), {}, {}, {}, {}};
  const std::size_t bytes = window_bytes(way, arrays);
  for (std::uint32_t w = 0; w < kWorkers; ++w) {
    HostMemory& to = way.gradients.emplace_back(memory_of(bytes * kWindows));
    for (std::size_t i = 0; i < kWindows; ++i)
      encode(way, arrays.gradient.as<float>() + i * arrays.window,
             arrays.residual.as<float>() + i * arrays.window, to.as<std::byte>() + i * bytes,
             arrays.window);
  }
  return way;
}

double fused_seconds(const Way& way, Arrays& arrays, std::size_t window) {
  const void* gradients[kWorkers];
  for (std::uint32_t w = 0; w < kWorkers; ++w)
    gradients[w] = way.gradients[w].as<std::byte>() + window * window_bytes(way, arrays);
  const std::size_t first = window * arrays.window;
  UpdateArgs args;
  args.gradients = gradients;
  args.workers = kWorkers;
  args.gradient_dtype = args.wire_dtype = DType::kBfloat16;
  if (way.codec.kind != CodecKind::kNone) args.codec = &way.codec;
  args.parameters = arrays.parameters.as<float>() + first;
  args.state[0] = arrays.first.as<float>() + first;
  args.state[1] = arrays.second.as<float>() + first;
  args.wire = arrays.wire.as<std::uint16_t>() + first;
  args.stream_wire = true;
  args.count = arrays.window;
  args.scale = 1.0F / kWorkers;
  const Coefficients coefficients = fold(default_optimizer(OptimizerKind::kAdamW), 1);
  const double start = thread_seconds();
  best_kernels().update(coefficients, args);
  return thread_seconds() - start;
}

double cached_seconds(const Way& way, Arrays& arrays) {
  constexpr int kTimes = 16;
  const double start = thread_seconds();
  for (int i = 0; i < kTimes; ++i)
    encode(way, arrays.gradient.as<float>(), arrays.residual.as<float>(), arrays.wire.as<void>(),
           kCachedElements);
  return (thread_seconds() - start) / kTimes;
}

double streamed_seconds(const Way& way, Arrays& arrays, std::size_t window) {
  const std::size_t first = window * arrays.window;
  const double start = thread_seconds();
  encode(way, arrays.gradient.as<float>() + first, arrays.residual.as<float>() + first,
         arrays.wire.as<float>() + first, arrays.window);
  return thread_seconds() - start;
}

// Each way visits every window once.
void measure_round(std::vector<Way>& ways, Arrays& arrays) {
  std::vector<double> fused(ways.size()), streamed(ways.size());
  for (std::size_t i = 0; i < kWindows; ++i)
    for (std::size_t way = 0; way < ways.size(); ++way) {
      const std::size_t window = (i + way * 5) % kWindows;
      fused[way] += fused_seconds(ways[way], arrays, window);
      streamed[way] += streamed_seconds(ways[way], arrays, (window + 7) % kWindows);
    }
  for (std::size_t way = 0; way < ways.size(); ++way) {
    const auto elements = static_cast<double>(arrays.elements);
    ways[way].fused.push_back(elements / fused[way]);
    ways[way].streamed.push_back(elements / streamed[way]);
    ways[way].cached.push_back(kCachedElements / cached_seconds(ways[way], arrays));
  }
}

std::string spread(std::vector<double> values, double unit) {
  std::sort(values.begin(), values.end());
  const std::size_t last = values.size() - 1;
  return fmt::format("{:6.2f} ({:5.2f} … {:5.2f})", values[last / 2] / unit,
                     values[last / 4] / unit, values[last - last / 4] / unit);
}

void print_way(const Way& way, const Way& plain) {
  std::vector<double> ratio;
  for (std::size_t i = 0; i < way.fused.size(); ++i) ratio.push_back(way.fused[i] / plain.fused[i]);
  constexpr double kMillion = 1e6, kBillion = 1e9;
  fmt::print("{:<22} {} {} {} {}\n", way.name, spread(way.fused, kMillion), spread(ratio, 1),
             spread(way.cached, kBillion), spread(way.streamed, kBillion));
}

}  // namespace

void print_codec_ratios(std::size_t elements, int rounds) {
  Arrays arrays(elements);
  std::vector<Way> ways;
  ways.push_back(make_way({}, "bf16", arrays));
  for (const char* text : {"2bit:threshold=0.0625", "2bit:threshold=0.05", "1bit:threshold=0",
                           "int8", "fp8_e4m3", "fp8_e5m2", "topk:fraction=0.01"})
    ways.push_back(make_way(*parse_codec_spec(text), text, arrays));
  measure_round(ways, arrays);  // warms up
  for (Way& way : ways) way.fused = way.cached = way.streamed = {};
  for (int i = 0; i < rounds; ++i) measure_round(ways, arrays);
  fmt::print("adamw, {} workers, bf16 wire, {} Mi parameters, 1 thread, {}, {} rounds; G is 10^9\n",
             kWorkers, elements >> 20, best_kernels().target, rounds);
  fmt::print("{:<22} {:>23} {:>23} {:>23} {:>23}\n", "", "fused, M elements/s", "over bf16",
             "encode, cached, G/s", "encode, DRAM, G/s");
  for (const Way& way : ways) print_way(way, ways.front());
}

}  // namespace penstock::bench
