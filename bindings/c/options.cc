// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/c/options.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "bindings/c/error.h"
#include "bindings/c/penstock.h"
#include "transport/providers.h"

namespace penstock::c {
namespace {

constexpr std::int64_t kMaxMs = 24 * 3600 * 1000;

struct Field {
  std::string_view name;
  Status (*set)(const Field& field, penstock_options& options, std::string_view value);
};

template <auto Text>
Status set_text(const Field&, penstock_options& options, std::string_view value) {
  options.node.*Text = std::string(value);
  return {};
}

Status set_flag(const Field& field, std::string_view value, bool& flag) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::int64_t number, parse_whole(field.name, value, 0, 1));
  flag = number == 1;
  return {};
}

template <auto Flag>
Status set_node_flag(const Field& field, penstock_options& options, std::string_view value) {
  return set_flag(field, value, options.node.*Flag);
}

Status set_encrypt(const Field& field, penstock_options& options, std::string_view value) {
  return set_flag(field, value, options.node.data.encrypt);
}

Status set_pin(const Field& field, penstock_options& options, std::string_view value) {
  return set_flag(field, value, options.node.threads.pin);
}

Status set_rank(const Field& field, penstock_options& options, std::string_view value) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::int64_t rank,
                            parse_whole(field.name, value, 0, kMaxJobWorkers - 1));
  options.node.rank = static_cast<Rank>(rank);
  return {};
}

template <auto Time>
Status set_ms(const Field& field, penstock_options& options, std::string_view value) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::int64_t ms, parse_whole(field.name, value, 1, kMaxMs));
  options.node.*Time = ms * kMillisecond;
  return {};
}

template <auto Count>
Status set_count(const Field& field, penstock_options& options, std::string_view value) {
  using Type = std::remove_reference_t<decltype(options.job.*Count)>;
  PENSTOCK_ASSIGN_OR_RETURN(const std::int64_t count,
                            parse_whole(field.name, value, 1, std::numeric_limits<int>::max()));
  options.job.*Count = static_cast<Type>(count);  // its real bounds are the scheduler's to say
  return {};
}

Status set_rails(const Field&, penstock_options& options, std::string_view value) {
  options.node.rails.clear();
  while (!value.empty()) {
    const std::size_t comma = std::min(value.find(','), value.size());
    options.node.rails.emplace_back(value.substr(0, comma));
    value.remove_prefix(std::min(comma + 1, value.size()));
  }
  return {};
}

Status set_transport(const Field& field, penstock_options& options, std::string_view value) {
  for (const std::string_view known : {"auto", "shm", "verbs", "ucx", "tcp"})
    if (value == known) return set_text<&NodeOptions::transport>(field, options, value);
  return {
      Code::kInvalidArgument,
      fmt::format("option transport is \"{}\", but must be auto, shm, verbs, ucx or tcp", value)};
}

constexpr Field kFields[] = {
    {"scheduler", set_text<&NodeOptions::scheduler>},
    {"listen", set_text<&NodeOptions::listen>},
    {"transport", set_transport},
    {"advertise_host", set_text<&NodeOptions::advertise_host>},
    {"rails", set_rails},
    {"secret_file", set_text<&NodeOptions::secret_file>},
    {"insecure", set_node_flag<&NodeOptions::insecure>},
    {"encrypt", set_encrypt},
    {"rank", set_rank},
    {"pin", set_pin},
    {"detect_ms", set_ms<&NodeOptions::detect_ns>},
    {"timeout_ms", set_ms<&NodeOptions::call_timeout_ns>},
    {"workers", set_count<&SchedulerOptions::workers>},
    {"servers", set_count<&SchedulerOptions::servers>},
    {"lanes", set_count<&SchedulerOptions::lanes>},
    {"slice_bytes", set_count<&SchedulerOptions::slice_bytes>},
};

}  // namespace

Result<std::int64_t> parse_whole(std::string_view name, std::string_view value, std::int64_t low,
                                 std::int64_t high) {
  std::int64_t number = 0;
  const char* const end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, number);
  if (error != std::errc() || stop != end || number < low || number > high)
    return Status(Code::kInvalidArgument,
                  fmt::format("{} is \"{}\", but must be a whole number from {} to {}", name, value,
                              low, high));
  return number;
}

TimeNs deadline_ns(std::int64_t timeout_ms, TimeNs otherwise) {
  if (timeout_ms < 0) return otherwise;
  return SystemClock().now_ns() + std::min(timeout_ms, kMaxMs) * kMillisecond;
}

Status set_option(penstock_options& options, std::string_view name, std::string_view value) {
  std::string known;
  for (const Field& field : kFields) {
    if (field.name == name) return field.set(field, options, value);
    known += fmt::format("{}{}", known.empty() ? "" : ", ", field.name);
  }
  return {Code::kNotFound, fmt::format("no option \"{}\"; known: {}", name, known)};
}

}  // namespace penstock::c

using penstock::c::guarded;
using penstock::c::null_argument;

extern "C" {

int penstock_options_create(penstock_options** options) {
  return guarded([&]() -> penstock::Status {
    if (options == nullptr) return null_argument("options");
    *options = new penstock_options();
    return {};
  });
}

int penstock_options_set(penstock_options* options, const char* name, const char* value) {
  return guarded([&]() -> penstock::Status {
    if (options == nullptr) return null_argument("options");
    if (name == nullptr) return null_argument("name");
    if (value == nullptr) return null_argument("value");
    return penstock::c::set_option(*options, name, value);
  });
}

void penstock_options_destroy(penstock_options* options) { delete options; }
}
