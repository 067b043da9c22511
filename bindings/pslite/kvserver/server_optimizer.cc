// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/kvserver/server_optimizer.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <string>

#include "kernels/optimizer_text.h"

namespace penstock::kvserver {
namespace {

// By name; each once.
using Fields = std::map<std::string, std::string, std::less<>>;

Status refuse(std::string what) { return {Code::kInvalidArgument, std::move(what)}; }

Status check_is_text(std::string_view text) {
  for (const char c : text)
    if (c < ' ' || c > '~')
      return refuse("the optimizer came pickled or is not plain text")
          .with_hint(
              "this server runs nobody's code: send the optimizer by name and numbers, for "
              "example \"sgd:learning_rate=0.1,momentum=0.9\"");
  return {};
}

Result<Fields> split(std::string_view list) {
  Fields fields;
  while (!list.empty()) {
    const std::string_view field = list.substr(0, list.find(','));
    list.remove_prefix(std::min(field.size() + 1, list.size()));
    const std::size_t equals = field.find('=');
    if (equals == std::string_view::npos)
      return refuse(fmt::format("\"{}\" in the optimizer is no name=value", field));
    if (!fields.emplace(field.substr(0, equals), field.substr(equals + 1)).second)
      return refuse(fmt::format("\"{}\" is said twice in the optimizer", field.substr(0, equals)));
  }
  return fields;
}

Result<double> number(std::string_view name, const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    return refuse(fmt::format("\"{}={}\" in the optimizer is no number", name, text));
  return value;
}

// The field's number, taken out of the list; nothing if it is not there.
Result<std::optional<double>> take(Fields& fields, std::string_view name) {
  const auto found = fields.find(name);
  if (found == fields.end()) return std::optional<double>();
  const Result<double> value = number(name, found->second);
  if (!value.ok()) return value.status();
  fields.erase(found);
  return std::optional<double>(*value);
}

Status rename(Fields& fields, std::string_view from, std::string_view to) {
  auto node = fields.extract(std::string(from));
  if (node.empty()) return {};
  node.key() = to;
  if (!fields.insert(std::move(node)).inserted)
    return refuse(fmt::format("\"{}\" and \"{}\" are the same in the optimizer", from, to));
  return {};
}

// What acts outside the rule.
Status take_frame(Fields& fields, ServerOptimizer& optimizer) {
  const auto rescale = take(fields, "rescale_grad");
  if (!rescale.ok()) return rescale.status();
  optimizer.scale = static_cast<float>((*rescale).value_or(1));
  if (!std::isfinite(optimizer.scale)) return refuse("rescale_grad is no float32");
  const auto lazy = take(fields, "lazy_update");
  if (!lazy.ok()) return lazy.status();
  if ((*lazy).value_or(1) != 0 && (*lazy).value_or(1) != 1)
    return refuse("lazy_update is neither 0 nor 1");
  if ((*lazy).value_or(1) == 0) optimizer.coverage = RowCoverage::kAll;
  const auto clip = take(fields, "clip_gradient");
  if (!clip.ok()) return clip.status();
  if (!*clip) return {};
  optimizer.zero_gradient = **clip == 0;
  if (**clip > 0 && !fields.emplace("clip", fmt::format("{}", **clip)).second)
    return refuse("clip and clip_gradient are both said of the optimizer");
  return {};
}

// MXNet's choices where the text leaves one.
Status take_forms(Fields& fields, std::string& name) {
  if (name == "nag") name = "nesterov";
  if (name == "sgd") {
    const auto found = fields.find("momentum");
    if (found != fields.end()) {
      const Result<double> momentum = number("momentum", found->second);
      if (!momentum.ok()) return momentum.status();
      if (*momentum != 0) name = "momentum";
    }
  }
  if (name == "momentum" || name == "nesterov") fields.emplace("momentum_form", "scaled_velocity");
  if (name == "adam") fields.emplace("epsilon_form", "hat");
  const auto centred = fields.find("centred");
  if (name == "rmsprop" && centred != fields.end() && centred->second == "1")
    fields.emplace("epsilon_form", "inside");
  return rename(fields, "wd", name == "ftrl" ? "lambda2" : "weight_decay");
}

}  // namespace

Coefficients ServerOptimizer::fold(std::uint64_t step) const {
  Coefficients coefficients = penstock::fold(spec, step);
  if (zero_gradient) coefficients.clip = 0;
  return coefficients;
}

RowCoefficients ServerOptimizer::fold_rows(std::uint64_t step) const {
  RowCoefficients coefficients = penstock::fold_rows(RowOptimizerSpec{.elements = spec}, step);
  if (zero_gradient) coefficients.elements.clip = 0;
  return coefficients;
}

Result<ServerOptimizer> parse_server_optimizer(std::string_view text) {
  PENSTOCK_RETURN_IF_ERROR(check_is_text(text));
  std::string name(text.substr(0, text.find(':')));
  Result<Fields> split_fields =
      split(name.size() < text.size() ? text.substr(name.size() + 1) : std::string_view());
  if (!split_fields.ok()) return split_fields.status();
  Fields& fields = *split_fields;
  ServerOptimizer optimizer;
  PENSTOCK_RETURN_IF_ERROR(take_frame(fields, optimizer));
  PENSTOCK_RETURN_IF_ERROR(take_forms(fields, name));
  std::string plain = name;
  for (const auto& [field, value] : fields)
    plain += fmt::format("{}{}={}", plain.size() == name.size() ? ':' : ',', field, value);
  Result<OptimizerSpec> spec = parse_optimizer_spec(plain);
  if (!spec.ok()) return spec.status();
  optimizer.spec = *spec;
  if (needs_norms(optimizer.spec))
    return Status(
               Code::kUnsupported,
               fmt::format("{} with these numbers needs norms of whole tensors, and keys are cut "
                           "over servers",
                           name))
        .with_hint("choose an optimizer that works element by element");
  return optimizer;
}

}  // namespace penstock::kvserver
