// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <limits>
#include <string>
#include <thread>

#include "tests/bindings/c_job.h"

namespace penstock::test {
namespace {

using ::testing::HasSubstr;

int create(CTensor& gradients, CTensor& parameters) {
  penstock_tensor* tensor = nullptr;
  const int status = penstock_tensor_create(7, &gradients.view, &parameters.view, &tensor);
  penstock_tensor_destroy(tensor);
  return status;
}

TEST(CAbi, OptionsAreCheckedByName) {
  penstock_options* options = nullptr;
  ASSERT_EQ(penstock_options_create(&options), PENSTOCK_OK);
  EXPECT_EQ(penstock_options_set(options, "transport", "tcp"), PENSTOCK_OK);
  EXPECT_EQ(penstock_options_set(options, "timeout_ms", "250"), PENSTOCK_OK);
  EXPECT_EQ(penstock_options_set(options, "colour", "red"), PENSTOCK_NOT_FOUND);
  EXPECT_THAT(penstock_last_error(), HasSubstr("no option \"colour\"; known: scheduler, listen"));
  EXPECT_EQ(penstock_options_set(options, "detect_ms", "soon"), PENSTOCK_INVALID_ARGUMENT);
  EXPECT_THAT(penstock_last_error(), HasSubstr("detect_ms is \"soon\""));
  EXPECT_EQ(penstock_options_set(options, "transport", "pigeon"), PENSTOCK_INVALID_ARGUMENT);
  EXPECT_EQ(penstock_options_set(options, nullptr, "1"), PENSTOCK_INVALID_ARGUMENT);
  EXPECT_EQ(penstock_options_set(nullptr, "pin", "1"), PENSTOCK_INVALID_ARGUMENT);
  EXPECT_THAT(penstock_last_error(), HasSubstr("options is NULL"));
  penstock_options_destroy(options);
  penstock_options_destroy(nullptr);
}

TEST(CAbi, EachThreadHasItsOwnLastError) {
  EXPECT_NE(penstock_worker_barrier(nullptr), PENSTOCK_OK);
  std::string other = "x";
  std::thread([&] { other = penstock_last_error(); }).join();
  EXPECT_EQ(other, "");
  EXPECT_THAT(penstock_last_error(), HasSubstr("worker is NULL"));
  EXPECT_STREQ(penstock_status_name(PENSTOCK_PEER_LOST), "peer lost");
  EXPECT_STRNE(penstock_status_name(PENSTOCK_NOT_FINITE), "unknown status");
  EXPECT_STREQ(penstock_status_name(99), "unknown status");
  EXPECT_EQ(penstock_version(), static_cast<std::uint32_t>(PENSTOCK_VERSION));
}

TEST(CAbi, TensorsThatCannotBeLentAreRefusedInWords) {
  CTensor gradients({2, 3});
  CTensor parameters({2, 3});
  EXPECT_EQ(create(gradients, parameters), PENSTOCK_OK);

  gradients.strides = {3, 1};
  gradients.view.strides = gradients.strides.data();
  EXPECT_EQ(create(gradients, parameters), PENSTOCK_OK);
  gradients.strides = {1, 2};
  EXPECT_EQ(create(gradients, parameters), PENSTOCK_INVALID_ARGUMENT);
  EXPECT_THAT(penstock_last_error(), HasSubstr("key 7: gradients are strided"));
  gradients.view.strides = nullptr;

  gradients.view.device.device_type = kDLCUDA;
  EXPECT_EQ(create(gradients, parameters), PENSTOCK_UNSUPPORTED);
  EXPECT_THAT(penstock_last_error(), HasSubstr("device type 2"));
  gradients.view.device.device_type = kDLCPU;

  parameters.view.dtype = {kDLInt, 32, 1};
  EXPECT_EQ(create(gradients, parameters), PENSTOCK_UNSUPPORTED);
  EXPECT_THAT(penstock_last_error(), HasSubstr("key 7: parameters have DLPack's type code 0"));
  parameters.view.dtype = {kDLFloat, 32, 1};

  CTensor other({3, 2});
  EXPECT_EQ(create(gradients, other), PENSTOCK_INVALID_ARGUMENT);
  EXPECT_THAT(penstock_last_error(), HasSubstr("gradients have shape [2,3], parameters [3,2]"));

  CTensor empty({0});
  EXPECT_EQ(create(empty, empty), PENSTOCK_INVALID_ARGUMENT);
  CTensor huge({4});
  huge.shape = {std::numeric_limits<std::int64_t>::max() / 2, 64};
  huge.view.shape = huge.shape.data();
  huge.view.ndim = 2;
  EXPECT_EQ(create(huge, huge), PENSTOCK_INVALID_ARGUMENT);
  gradients.view.data = nullptr;
  EXPECT_EQ(create(gradients, parameters), PENSTOCK_INVALID_ARGUMENT);
  EXPECT_THAT(penstock_last_error(), HasSubstr("no memory"));
}

TEST(CAbi, PropertiesAreCheckedByName) {
  CTensor buffer({4});
  penstock_tensor* tensor = nullptr;
  ASSERT_EQ(penstock_tensor_create(7, &buffer.view, &buffer.view, &tensor), PENSTOCK_OK);
  for (const auto& [name, value] : {std::pair{"name", "w"},
                                    {"optimizer", "adam:beta2=0.95"},
                                    {"reduce", "sum"},
                                    {"priority", "-3"},
                                    {"codec", "int8:block=128"},
                                    {"initial", "uniform:-0.1,0.1,42"},
                                    {"initial", "constant:1.5"}})
    EXPECT_EQ(penstock_tensor_set(tensor, name, value), PENSTOCK_OK) << penstock_last_error();
  for (const auto& [name, value] : {std::pair{"optimizer", "adam:beta2=1"},
                                    {"optimizer", "gradient"},
                                    {"reduce", "max"},
                                    {"priority", "high"},
                                    {"codec", "2bit:threshold=-1"},
                                    {"initial", "uniform:1"},
                                    {"initial", "normal:0,1,-4"},
                                    {"initial", "ones"},
                                    {"initial", "constant:1x"}})
    EXPECT_EQ(penstock_tensor_set(tensor, name, value), PENSTOCK_INVALID_ARGUMENT)
        << name << " " << value << ": " << penstock_last_error();
  EXPECT_EQ(penstock_tensor_set(tensor, "size", "4"), PENSTOCK_NOT_FOUND);
  penstock_tensor_destroy(tensor);
}

TEST(CAbi, AJobThatNobodyJoinsEndsByItsDeadline) {
  penstock_options* options = nullptr;
  ASSERT_EQ(penstock_options_create(&options), PENSTOCK_OK);
  for (const auto& [name, value] : {std::pair{"scheduler", "127.0.0.1:9"},
                                    {"insecure", "1"},
                                    {"timeout_ms", "300"},
                                    {"detect_ms", "100"},
                                    {"transport", "tcp"}})
    ASSERT_EQ(penstock_options_set(options, name, value), PENSTOCK_OK);
  penstock_worker* worker = nullptr;
  EXPECT_NE(penstock_worker_start(options, &worker), PENSTOCK_OK);
  EXPECT_EQ(worker, nullptr);
  EXPECT_STRNE(penstock_last_error(), "");
  penstock_options_destroy(options);
}

}  // namespace
}  // namespace penstock::test
