// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/initializer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "kernels/reproducible.h"
#include "transport/base/random.h"

namespace penstock {
namespace {

constexpr std::uint64_t kGolden = 0x9e37'79b9'7f4a'7c15;  // SplitMix64's increment

std::uint64_t stream_of(std::uint64_t seed, std::uint64_t key) {
  return SeededRandom::mix(SeededRandom::mix(seed + kGolden) ^
                           SeededRandom::mix(key + 2 * kGolden));
}

std::uint64_t bits_of(std::uint64_t stream, std::uint64_t element) {
  return SeededRandom::mix(stream + (element + 1) * kGolden);
}

// Coefficients of Wichura 1988, "Algorithm AS 241", routine PPND16, highest power first.
constexpr double kCentreTop[] = {2.5090809287301226727e+3, 3.3430575583588128105e+4,
                                 6.7265770927008700853e+4, 4.5921953931549871457e+4,
                                 1.3731693765509461125e+4, 1.9715909503065514427e+3,
                                 1.3314166789178437745e+2, 3.3871328727963666080e+0};
constexpr double kCentreBottom[] = {5.2264952788528545610e+3, 2.8729085735721942674e+4,
                                    3.9307895800092710610e+4, 2.1213794301586595867e+4,
                                    5.3941960214247511077e+3, 6.8718700749205790830e+2,
                                    4.2313330701600911252e+1, 1.0};
constexpr double kMiddleTop[] = {7.74545014278341407640e-4, 2.27238449892691845833e-2,
                                 2.41780725177450611770e-1, 1.27045825245236838258e+0,
                                 3.64784832476320460504e+0, 5.76949722146069140550e+0,
                                 4.63033784615654529590e+0, 1.42343711074968357734e+0};
constexpr double kMiddleBottom[] = {1.05075007164441684324e-9, 5.47593808499534494600e-4,
                                    1.51986665636164571966e-2, 1.48103976427480074590e-1,
                                    6.89767334985100004550e-1, 1.67638483018380384940e+0,
                                    2.05319162663775882187e+0, 1.0};
constexpr double kTailTop[] = {2.01033439929228813265e-7, 2.71155556874348757815e-5,
                               1.24266094738807843860e-3, 2.65321895265761230930e-2,
                               2.96560571828504891230e-1, 1.78482653991729133580e+0,
                               5.46378491116411436990e+0, 6.65790464350110377720e+0};
constexpr double kTailBottom[] = {2.04426310338993978564e-15, 1.42151175831644588870e-7,
                                  1.84631831751005468180e-5,  7.86869131145613259100e-4,
                                  1.48753612908506148525e-2,  1.36929880922735805310e-1,
                                  5.99832206555887937690e-1,  1.0};

double polynomial(const double (&coefficients)[8], double x) {
  double value = 0;
  for (double coefficient : coefficients) value = value * x + coefficient;
  return value;
}

// The z below which a standard normal falls with probability ½ + q, 0 ≤ q < ½; tail = ½ − q is
// given apart because it is exact. AS 241.
double normal_quantile(double q, double tail) {
  if (q <= 0.425) {
    const double r = 0.180625 - q * q;
    return q * polynomial(kCentreTop, r) / polynomial(kCentreBottom, r);
  }
  const double r = std::sqrt(-logarithm(tail));
  if (r <= 5) return polynomial(kMiddleTop, r - 1.6) / polynomial(kMiddleBottom, r - 1.6);
  return polynomial(kTailTop, r - 5) / polynomial(kTailBottom, r - 5);
}

// The top bit is the sign, the low 52 the tail probability (n + ½)·2⁻⁵³ in (0, ½).
double standard_normal(std::uint64_t bits) {
  const double tail = (static_cast<double>(bits & ((1ULL << 52) - 1)) + 0.5) * 0x1p-53;
  const double z = normal_quantile(0.5 - tail, tail);
  return bits >> 63 ? -z : z;
}

Status refuse(std::string_view field, double value, std::string_view rule) {
  return Status(Code::kInvalidArgument,
                fmt::format("initializer {} is {}, but must be {}", field, value, rule));
}

}  // namespace

Status validate(const InitializerSpec& spec) {
  const auto kind = static_cast<unsigned>(spec.kind);
  if (kind > InitializerSpec::kNormal)
    return refuse("kind", kind, "0 zeros, 1 constant, 2 uniform or 3 normal");
  if (!(std::abs(spec.a) <= FLT_MAX)) return refuse("a", spec.a, "a finite float32");
  if (!(std::abs(spec.b) <= FLT_MAX)) return refuse("b", spec.b, "a finite float32");
  if (spec.kind == InitializerSpec::kUniform && spec.a > spec.b)
    return refuse("a", spec.a, "at most b");
  if (spec.kind == InitializerSpec::kNormal && spec.b < 0)
    return refuse("b", spec.b, "a standard deviation of at least 0");
  return {};
}

void initialize(const InitializerSpec& spec, std::uint64_t key, std::uint64_t first_element,
                std::span<float> values) {
  const std::uint64_t stream = stream_of(spec.seed, key);
  switch (spec.kind) {
    case InitializerSpec::kZeros:
      std::fill(values.begin(), values.end(), 0.0F);
      break;
    case InitializerSpec::kConstant:
      std::fill(values.begin(), values.end(), static_cast<float>(spec.a));
      break;
    case InitializerSpec::kUniform:
      for (float& value : values) {
        const auto u = static_cast<double>(bits_of(stream, first_element++) >> 11) * 0x1p-53;
        value = static_cast<float>(spec.a + (spec.b - spec.a) * u);
      }
      break;
    case InitializerSpec::kNormal:
      for (float& value : values)
        value =
            static_cast<float>(spec.a + spec.b * standard_normal(bits_of(stream, first_element++)));
      break;
  }
}

}  // namespace penstock
