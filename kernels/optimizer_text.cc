// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/optimizer_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <type_traits>
#include <vector>

namespace penstock {
namespace {

struct Number {
  std::string_view name;
  double OptimizerSpec::*member;
};
constexpr Number kNumbers[] = {
    {"learning_rate", &OptimizerSpec::learning_rate},
    {"momentum", &OptimizerSpec::momentum},
    {"beta1", &OptimizerSpec::beta1},
    {"beta2", &OptimizerSpec::beta2},
    {"rho", &OptimizerSpec::rho},
    {"epsilon", &OptimizerSpec::epsilon},
    {"weight_decay", &OptimizerSpec::weight_decay},
    {"clip", &OptimizerSpec::clip},
    {"lambda1", &OptimizerSpec::lambda1},
    {"lambda2", &OptimizerSpec::lambda2},
    {"beta", &OptimizerSpec::beta},
    {"initial_accumulator", &OptimizerSpec::initial_accumulator},
    {"l1", &OptimizerSpec::l1},
    {"compensation", &OptimizerSpec::compensation},
    {"trust", &OptimizerSpec::trust},
    {"clip_norm", &OptimizerSpec::clip_norm},
    {"clip_global_norm", &OptimizerSpec::clip_global_norm},
    {"beta2_decay", &OptimizerSpec::beta2_decay},
    {"epsilon2", &OptimizerSpec::epsilon2},
    {"clip_threshold", &OptimizerSpec::clip_threshold},
};

struct ScheduleNumber {
  std::string_view name;
  double Schedule::*member;
};
constexpr ScheduleNumber kScheduleNumbers[] = {
    {"factor", &Schedule::factor},
    {"power", &Schedule::power},
    {"final", &Schedule::final},
    {"warmup_start", &Schedule::warmup_start},
};

struct Count {
  std::string_view name;
  std::uint64_t Schedule::*member;
};
constexpr Count kCounts[] = {{"period", &Schedule::period}, {"warmup", &Schedule::warmup}};

// A field whose value is one of a few words, in the order of their numbers.
struct Choice {
  std::string_view name;
  std::vector<std::string_view> words;
  void (*set)(OptimizerSpec& spec, std::size_t word);
};
std::vector<std::string_view> schedule_names() {
  std::vector<std::string_view> names;
  for (std::uint32_t i = 0; i < kScheduleKinds; ++i)
    names.push_back(schedule_name(static_cast<ScheduleKind>(i)));
  return names;
}

const std::vector<Choice>& choices() {
  static const std::vector<Choice> all = {
      {"momentum_form",
       {"velocity", "scaled_velocity"},
       [](OptimizerSpec& spec, std::size_t word) {
         spec.momentum_form = static_cast<MomentumForm>(word);
       }},
      {"epsilon_form",
       {"outside", "hat", "inside"},
       [](OptimizerSpec& spec, std::size_t word) {
         spec.epsilon_form = static_cast<EpsilonForm>(word);
       }},
      {"ftrl_form",
       {"mcmahan", "doubled"},
       [](OptimizerSpec& spec, std::size_t word) { spec.ftrl_form = static_cast<FtrlForm>(word); }},
      {"schedule", schedule_names(),
       [](OptimizerSpec& spec, std::size_t word) {
         spec.schedule.kind = static_cast<ScheduleKind>(word);
       }},
      {"centred",
       {"0", "1"},
       [](OptimizerSpec& spec, std::size_t word) { spec.centred = word == 1; }},
      {"state_dtype",
       {"fp32", "bf16"},
       [](OptimizerSpec& spec, std::size_t word) {
         spec.state_dtype = static_cast<StateDType>(word);
       }},
      {"relative_step",
       {"0", "1"},
       [](OptimizerSpec& spec, std::size_t word) { spec.relative_step = word == 1; }},
      {"scale_parameter",
       {"0", "1"},
       [](OptimizerSpec& spec, std::size_t word) { spec.scale_parameter = word == 1; }},
  };
  return all;
}

Status bad(std::string text) { return {Code::kInvalidArgument, std::move(text)}; }

std::string known_fields() {
  std::vector<std::string_view> names;
  for (const Number& number : kNumbers) names.push_back(number.name);
  for (const ScheduleNumber& number : kScheduleNumbers) names.push_back(number.name);
  for (const Count& count : kCounts) names.push_back(count.name);
  for (const Choice& choice : choices()) names.push_back(choice.name);
  names.insert(names.end(), {"boundaries", "multipliers", "rounding_seed"});
  return fmt::format("known: {}", fmt::join(names, ", "));
}

template <class Value>
Status set_number(std::string_view name, std::string_view value, Value& number) {
  const char* const end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, number);
  if (error == std::errc() && stop == end) return {};
  return bad(fmt::format("optimizer {} is '{}', but must be a {}", name, value,
                         std::is_integral_v<Value> ? "whole number" : "number"));
}

// "100/200/300". Boundaries and multipliers are as many; whichever comes first says how many.
template <class Value>
Status set_list(std::string_view name, std::string_view value, std::uint32_t& count,
                std::array<Value, kMaxBoundaries>& list) {
  std::uint32_t read = 0;
  for (bool more = true; more; ++read) {
    if (read == kMaxBoundaries)
      return bad(fmt::format("optimizer {} has more than {} numbers", name, kMaxBoundaries));
    const std::size_t slash = value.find('/');
    PENSTOCK_RETURN_IF_ERROR(set_number(name, value.substr(0, slash), list[read]));
    more = slash != value.npos;
    if (more) value.remove_prefix(slash + 1);
  }
  if (count != 0 && count != read)
    return bad(fmt::format("optimizer {} has {} numbers, but there are {} of the other list", name,
                           read, count));
  count = read;
  return {};
}

Status set_field(OptimizerSpec& spec, std::string_view name, std::string_view value) {
  Schedule& schedule = spec.schedule;
  for (const Number& number : kNumbers)
    if (number.name == name) return set_number(name, value, spec.*number.member);
  for (const ScheduleNumber& number : kScheduleNumbers)
    if (number.name == name) return set_number(name, value, schedule.*number.member);
  for (const Count& count : kCounts)
    if (count.name == name) return set_number(name, value, schedule.*count.member);
  if (name == "rounding_seed") return set_number(name, value, spec.rounding_seed);
  if (name == "boundaries")
    return set_list(name, value, schedule.boundary_count, schedule.boundaries);
  if (name == "multipliers")
    return set_list(name, value, schedule.boundary_count, schedule.multipliers);
  for (const Choice& choice : choices()) {
    if (choice.name != name) continue;
    const auto found = std::find(choice.words.begin(), choice.words.end(), value);
    if (found == choice.words.end())
      return bad(fmt::format("optimizer {} is '{}', but must be {}", name, value,
                             fmt::join(choice.words, " or ")));
    choice.set(spec, static_cast<std::size_t>(found - choice.words.begin()));
    return {};
  }
  return bad(fmt::format("no field of an optimizer is called '{}'", name))
      .with_hint(known_fields());
}

}  // namespace

std::string optimizer_names() {
  std::vector<std::string_view> names;
  for (std::uint32_t i = 0; i < kOptimizerKinds; ++i)
    names.push_back(optimizer_name(static_cast<OptimizerKind>(i)));
  return fmt::format("{}", fmt::join(names, ", "));
}

Result<OptimizerSpec> parse_optimizer_spec(std::string_view text) {
  const std::size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const std::optional<OptimizerKind> kind = parse_optimizer(name);
  if (!kind)
    return bad(fmt::format("no optimizer is called '{}'", name))
        .with_hint(fmt::format("known: {}", optimizer_names()));
  OptimizerSpec spec = default_optimizer(*kind);
  std::string_view rest = colon == text.npos ? std::string_view() : text.substr(colon + 1);
  std::vector<std::string_view> seen;
  for (bool more = colon != text.npos; more;) {
    const std::size_t comma = rest.find(',');
    const std::string_view field = rest.substr(0, comma);
    more = comma != rest.npos;
    if (more) rest.remove_prefix(comma + 1);
    const std::size_t equals = field.find('=');
    if (equals == field.npos)
      return bad(fmt::format("'{}' in optimizer '{}' has no '='", field, text))
          .with_hint("write NAME:FIELD=VALUE,FIELD=VALUE");
    const std::string_view key = field.substr(0, equals);
    if (std::find(seen.begin(), seen.end(), key) != seen.end())
      return bad(fmt::format("optimizer {} is given twice", key));
    seen.push_back(key);
    PENSTOCK_RETURN_IF_ERROR(set_field(spec, key, field.substr(equals + 1)));
  }
  PENSTOCK_RETURN_IF_ERROR(validate(spec));
  return spec;
}

}  // namespace penstock
