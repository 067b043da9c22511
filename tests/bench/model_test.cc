// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace penstock::psbench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

std::uint64_t elements_of(const char* name) {
  Result<Model> model = load_model(name);
  EXPECT_TRUE(model.ok()) << model.status().to_string();
  return model.ok() ? model->elements() : 0;
}

const ModelTensor* find(const Model& model, const std::string& name) {
  for (const ModelTensor& tensor : model.tensors)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

TEST(Model, HasThePublishedNumberOfParameters) {
  EXPECT_EQ(elements_of("resnet50"), 25'557'032U);  // torchvision
  EXPECT_EQ(elements_of("vgg16"), 138'357'544U);    // torchvision
  EXPECT_EQ(elements_of("gpt2"), 124'439'808U);     // transformers
}

TEST(Model, BertLargeAddsUpFromItsPaper) {
  constexpr std::uint64_t h = 1024, ffn = 4 * h, norm = 2 * h, layers = 24;
  constexpr std::uint64_t embeddings = (30522 + 512 + 2) * h + norm;
  constexpr std::uint64_t layer = 4 * (h * h + h) + norm + (h * ffn + ffn) + (ffn * h + h) + norm;
  constexpr std::uint64_t pooler = h * h + h;
  static_assert(embeddings + layers * layer + pooler == 335'141'888);
  EXPECT_EQ(elements_of("bert-large"), embeddings + layers * layer + pooler);
}

TEST(Model, DlrmAddsUpFromItsLayers) {
  const auto mlp = [](std::vector<std::uint64_t> widths) {
    std::uint64_t sum = 0;
    for (std::size_t i = 1; i < widths.size(); ++i) sum += widths[i - 1] * widths[i] + widths[i];
    return sum;
  };
  EXPECT_EQ(elements_of("dlrm-mlp"),
            mlp({13, 512, 256, 128}) + mlp({479, 1024, 1024, 512, 256, 1}));
  EXPECT_EQ(elements_of("dlrm-mlp"), 2'368'897U);
}

TEST(Model, ListsTensorsInForwardOrder) {
  const Model model = load_model("resnet50").value();
  EXPECT_EQ(model.tensors.front().name, "conv1.weight");
  EXPECT_THAT(model.tensors.front().shape, ElementsAre(64, 3, 7, 7));
  EXPECT_EQ(model.tensors.back().name, "fc.bias");
  EXPECT_EQ(model.tensors.size(), 161U);
  const ModelTensor* tensor = find(model, "layer4.0.downsample.0.weight");
  ASSERT_NE(tensor, nullptr);
  EXPECT_THAT(tensor->shape, ElementsAre(2048, 1024, 1, 1));
}

TEST(Model, EveryOneNamesItsSourceAndHasNoEmptyOrRepeatedTensor) {
  EXPECT_THAT(known_models(),
              UnorderedElementsAre("resnet50", "vgg16", "bert-large", "gpt2", "dlrm-mlp"));
  for (const std::string& name : known_models()) {
    const Model model = load_model(name).value();
    EXPECT_GT(model.source.size(), 20U) << name;
    for (const ModelTensor& tensor : model.tensors) {
      EXPECT_GT(tensor.elements, 0U) << tensor.name;
      EXPECT_EQ(find(model, tensor.name), &tensor) << "twice: " << tensor.name;
    }
  }
}

TEST(Model, UnknownNameGetsOneSentenceWithTheKnownOnes) {
  const Status status = load_model("resnet51").status();
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_THAT(status.to_string(), HasSubstr("\"resnet51\""));
  for (const std::string& name : known_models()) EXPECT_THAT(status.to_string(), HasSubstr(name));
  EXPECT_THAT(status.to_string(), testing::Not(HasSubstr("\n")));
}

TEST(Model, SingleTensorHoldsTheBytesAskedForAndAtLeastOneElement) {
  EXPECT_EQ(single_tensor_model(4096, 4).elements(), 1024U);
  EXPECT_EQ(single_tensor_model(4096, 2).elements(), 2048U);
  EXPECT_EQ(single_tensor_model(1, 4).elements(), 1U);
  EXPECT_EQ(single_tensor_model(64 << 20, 4).name, "64M");
}

}  // namespace
}  // namespace penstock::psbench
