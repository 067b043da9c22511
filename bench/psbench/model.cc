// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "bench/psbench/sizes.h"

namespace penstock::psbench {

extern const char kModelsJson[];  // generated from models.json

namespace {

nlohmann::ordered_json models() { return nlohmann::ordered_json::parse(kModelsJson); }

ModelTensor tensor_of(const nlohmann::ordered_json& entry) {
  ModelTensor tensor;
  entry.at(0).get_to(tensor.name);
  entry.at(1).get_to(tensor.shape);
  tensor.elements = 1;
  for (const std::uint64_t extent : tensor.shape) tensor.elements *= extent;
  return tensor;
}

}  // namespace

std::uint64_t Model::elements() const {
  std::uint64_t sum = 0;
  for (const ModelTensor& tensor : tensors) sum += tensor.elements;
  return sum;
}

std::vector<std::string> known_models() {
  std::vector<std::string> names;
  const nlohmann::ordered_json all = models();
  for (const auto& [name, model] : all.items()) names.push_back(name);
  return names;
}

Result<Model> load_model(std::string_view name) {
  const nlohmann::ordered_json all = models();
  const auto found = all.find(std::string(name));
  if (found == all.end())
    return Status(Code::kNotFound, fmt::format("there is no model \"{}\"", name))
        .with_hint(fmt::format("known: {}", fmt::join(known_models(), ", ")));
  Model model{std::string(name), found->at("source"), {}};
  for (const auto& entry : found->at("tensors")) model.tensors.push_back(tensor_of(entry));
  return model;
}

Model single_tensor_model(std::uint64_t bytes, std::uint64_t element_bytes) {
  const std::uint64_t elements = std::max<std::uint64_t>(1, bytes / element_bytes);
  return {format_size(bytes), "a single tensor", {{"tensor", {elements}, elements}}};
}

}  // namespace penstock::psbench
