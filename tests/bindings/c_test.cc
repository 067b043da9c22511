// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bindings/c/penstock.h"

namespace penstock::test {
namespace {

using ::testing::HasSubstr;

struct Tensor {
  explicit Tensor(std::vector<std::int64_t> dimensions) : shape(std::move(dimensions)) {
    std::int64_t elements = 1;
    for (const std::int64_t size : shape) elements *= std::max<std::int64_t>(size, 1);
    data.resize(static_cast<std::size_t>(elements));
    view.data = data.data();
    view.device = {kDLCPU, 0};
    view.ndim = static_cast<int>(shape.size());
    view.dtype = {kDLFloat, 32, 1};
    view.shape = shape.data();
  }
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  std::vector<float> data;
  DLTensor view{};
};

int create(Tensor& gradients, Tensor& parameters) {
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
  Tensor gradients({2, 3});
  Tensor parameters({2, 3});
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

  Tensor other({3, 2});
  EXPECT_EQ(create(gradients, other), PENSTOCK_INVALID_ARGUMENT);
  EXPECT_THAT(penstock_last_error(), HasSubstr("gradients have shape [2,3], parameters [3,2]"));

  Tensor empty({0});
  EXPECT_EQ(create(empty, empty), PENSTOCK_INVALID_ARGUMENT);
  Tensor huge({4});
  huge.shape = {std::numeric_limits<std::int64_t>::max() / 2, 64};
  huge.view.shape = huge.shape.data();
  huge.view.ndim = 2;
  EXPECT_EQ(create(huge, huge), PENSTOCK_INVALID_ARGUMENT);
  gradients.view.data = nullptr;
  EXPECT_EQ(create(gradients, parameters), PENSTOCK_INVALID_ARGUMENT);
  EXPECT_THAT(penstock_last_error(), HasSubstr("no memory"));
}

TEST(CAbi, PropertiesAreCheckedByName) {
  Tensor buffer({4});
  penstock_tensor* tensor = nullptr;
  ASSERT_EQ(penstock_tensor_create(7, &buffer.view, &buffer.view, &tensor), PENSTOCK_OK);
  for (const auto& [name, value] : {std::pair{"name", "w"},
                                    {"optimizer", "adam:beta2=0.95"},
                                    {"reduce", "sum"},
                                    {"priority", "-3"},
                                    {"initial", "uniform:-0.1,0.1,42"},
                                    {"initial", "constant:1.5"}})
    EXPECT_EQ(penstock_tensor_set(tensor, name, value), PENSTOCK_OK) << penstock_last_error();
  for (const auto& [name, value] : {std::pair{"optimizer", "adam:beta2=1"},
                                    {"optimizer", "gradient"},
                                    {"reduce", "max"},
                                    {"priority", "high"},
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

// A whole job through the C ABI.
struct CJob {
  explicit CJob(penstock_handler handler = nullptr, void* context = nullptr) {
    penstock_options_create(&options);
    for (const auto& [name, value] :
         {std::pair{"insecure", "1"}, {"transport", "tcp"}, {"timeout_ms", "20000"}, {"pin", "0"}})
      penstock_options_set(options, name, value);
    EXPECT_EQ(penstock_scheduler_start(options, &scheduler), PENSTOCK_OK) << penstock_last_error();
    penstock_options_set(options, "scheduler", penstock_scheduler_address(scheduler));
    penstock_options_set_handler(options, handler, context);
    EXPECT_EQ(penstock_server_start(options, &server), PENSTOCK_OK) << penstock_last_error();
    EXPECT_EQ(penstock_worker_start(options, &worker), PENSTOCK_OK) << penstock_last_error();
  }
  ~CJob() {
    if (worker != nullptr) {
      EXPECT_EQ(penstock_worker_leave(worker), PENSTOCK_OK) << penstock_last_error();
    }
    EXPECT_EQ(penstock_server_wait(server, PENSTOCK_DEFAULT_TIMEOUT), PENSTOCK_OK)
        << penstock_last_error();
    EXPECT_EQ(penstock_scheduler_wait(scheduler, PENSTOCK_DEFAULT_TIMEOUT), PENSTOCK_OK)
        << penstock_last_error();
    penstock_worker_destroy(worker);
    penstock_server_destroy(server);
    penstock_scheduler_destroy(scheduler);
    penstock_options_destroy(options);
  }
  penstock_options* options = nullptr;
  penstock_scheduler* scheduler = nullptr;
  penstock_server* server = nullptr;
  penstock_worker* worker = nullptr;
};

TEST(CAbi, RoundsRunAndAreWaitedForByDeadline) {
  CJob job;
  Tensor gradients({3});
  Tensor parameters({3});
  gradients.data = {1, 2, 3};
  penstock_tensor* tensor = nullptr;
  ASSERT_EQ(penstock_tensor_create(5, &gradients.view, &parameters.view, &tensor), PENSTOCK_OK);
  ASSERT_EQ(penstock_tensor_set(tensor, "optimizer", "sgd:learning_rate=1"), PENSTOCK_OK);
  ASSERT_EQ(penstock_worker_declare(job.worker, &tensor, 1), PENSTOCK_OK) << penstock_last_error();
  penstock_tensor_destroy(tensor);
  ASSERT_EQ(penstock_worker_push_pull(job.worker, 5, 1), PENSTOCK_OK);
  ASSERT_EQ(penstock_worker_wait(job.worker, 5, 1, PENSTOCK_DEFAULT_TIMEOUT), PENSTOCK_OK);
  EXPECT_EQ(parameters.data, (std::vector<float>{-1, -2, -3}));
  int finished = 0;
  EXPECT_EQ(penstock_worker_test(job.worker, 5, 1, &finished), PENSTOCK_OK);
  EXPECT_EQ(finished, 1);
  ASSERT_EQ(penstock_worker_pull(job.worker, 5, 2), PENSTOCK_OK);
  ASSERT_EQ(penstock_worker_wait(job.worker, 5, 2, PENSTOCK_DEFAULT_TIMEOUT), PENSTOCK_OK);
  EXPECT_EQ(penstock_worker_push_pull(job.worker, 5, 9), PENSTOCK_INVALID_ARGUMENT);
  EXPECT_EQ(penstock_worker_push_pull(job.worker, 6, 1), PENSTOCK_NOT_FOUND);

  std::size_t count = 0;
  ASSERT_EQ(penstock_worker_counters(job.worker, nullptr, 0, &count), PENSTOCK_OK);
  ASSERT_GT(count, 0U);
  std::vector<penstock_counter> counters(count);
  ASSERT_EQ(penstock_worker_counters(job.worker, counters.data(), count, &count), PENSTOCK_OK);
  EXPECT_NE(std::string(counters[0].name), "");

  void* memory = nullptr;
  ASSERT_EQ(penstock_worker_allocate(job.worker, 10'000, &memory), PENSTOCK_OK);
  EXPECT_EQ(penstock_worker_free(job.worker, memory), PENSTOCK_OK);
  EXPECT_EQ(penstock_worker_free(job.worker, memory), PENSTOCK_NOT_FOUND);
}

TEST(CAbi, MemoryOutlivesAWorkerThatWasStopped) {
  CJob job;
  penstock_worker* const stopped = std::exchange(job.worker, nullptr);
  void* memory = nullptr;
  void* forgotten = nullptr;
  ASSERT_EQ(penstock_worker_allocate(stopped, 10'000, &memory), PENSTOCK_OK);
  ASSERT_EQ(penstock_worker_allocate(stopped, 10'000, &forgotten), PENSTOCK_OK);
  ASSERT_EQ(penstock_worker_leave(stopped), PENSTOCK_OK);
  EXPECT_EQ(penstock_worker_stop(stopped), PENSTOCK_OK);
  EXPECT_EQ(penstock_worker_stop(stopped), PENSTOCK_OK);
  EXPECT_EQ(penstock_worker_barrier(stopped), PENSTOCK_CANCELLED);
  std::memset(memory, 1, 10'000);
  EXPECT_EQ(penstock_worker_free(stopped, memory), PENSTOCK_OK);
  penstock_worker_destroy(stopped);  // with what is left
}

// Doubles the floats of the first array; "no" is refused, "mine" answered with the request's own.
void double_floats(penstock_request* request, void* context) {
  ++*static_cast<int*>(context);
  const penstock_array head = penstock_request_head(request);
  const std::string what(static_cast<const char*>(head.data), head.bytes);
  if (what == "no") {
    penstock_request_fail(request, PENSTOCK_ACCESS, "not for you");
    return;
  }
  const penstock_array numbers = penstock_request_get(request, 0);
  if (what == "mine") {
    penstock_request_answer(request, head, &numbers, 1, nullptr, nullptr);
    return;
  }
  const auto* const given = static_cast<const float*>(numbers.data);
  auto* const doubled = new std::vector<float>(given, given + numbers.bytes / sizeof(float));
  for (float& number : *doubled) number *= 2;
  const penstock_array answer = {doubled->data(), numbers.bytes};
  penstock_request_answer(
      request, head, &answer, 1,
      [](void* numbers_given) { delete static_cast<std::vector<float>*>(numbers_given); }, doubled);
}

TEST(CAbi, RequestsAreAnswered) {
  int calls = 0;
  CJob job(double_floats, &calls);
  std::vector<float> numbers(40'000, 1.5F);
  std::vector<float> place(numbers.size());
  const penstock_array array = {numbers.data(), numbers.size() * sizeof(float)};
  const penstock_place where = {place.data(), place.size() * sizeof(float)};
  std::uint64_t number = 0;
  penstock_answer* answer = nullptr;

  ASSERT_EQ(penstock_worker_request(job.worker, 0, 3, {"go", 2}, &array, 1, &where, 1, &number),
            PENSTOCK_OK)
      << penstock_last_error();
  ASSERT_EQ(penstock_worker_answer(job.worker, number, PENSTOCK_DEFAULT_TIMEOUT, &answer),
            PENSTOCK_OK)
      << penstock_last_error();
  EXPECT_EQ(penstock_answer_count(answer), 1U);
  EXPECT_EQ(penstock_answer_get(answer, 0).data, place.data());
  EXPECT_EQ(penstock_answer_get(answer, 1).data, nullptr);
  EXPECT_EQ(place, std::vector<float>(numbers.size(), 3.0F));
  penstock_answer_destroy(answer);
  EXPECT_EQ(penstock_worker_answer(job.worker, number, 0, &answer), PENSTOCK_NOT_FOUND);

  ASSERT_EQ(penstock_worker_request(job.worker, 0, 3, {"mine", 4}, &array, 1, nullptr, 0, &number),
            PENSTOCK_OK);
  ASSERT_EQ(penstock_worker_answer(job.worker, number, PENSTOCK_DEFAULT_TIMEOUT, &answer),
            PENSTOCK_OK);
  EXPECT_EQ(penstock_answer_get(answer, 0).bytes, array.bytes);
  penstock_answer_destroy(answer);

  ASSERT_EQ(penstock_worker_request(job.worker, 0, 3, {"no", 2}, nullptr, 0, nullptr, 0, &number),
            PENSTOCK_OK);
  EXPECT_EQ(penstock_worker_answer(job.worker, number, PENSTOCK_DEFAULT_TIMEOUT, &answer),
            PENSTOCK_ACCESS);
  EXPECT_THAT(penstock_last_error(), HasSubstr("not for you"));
  EXPECT_EQ(penstock_worker_request(job.worker, 4, 3, {"go", 2}, &array, 1, nullptr, 0, &number),
            PENSTOCK_NOT_FOUND);
  EXPECT_EQ(calls, 3);
}

TEST(CAbi, AServerWithoutAHandlerRefuses) {
  CJob job;
  std::uint64_t number = 0;
  penstock_answer* answer = nullptr;
  ASSERT_EQ(penstock_worker_request(job.worker, 0, 0, {"go", 2}, nullptr, 0, nullptr, 0, &number),
            PENSTOCK_OK);
  EXPECT_EQ(penstock_worker_answer(job.worker, number, PENSTOCK_DEFAULT_TIMEOUT, &answer),
            PENSTOCK_UNSUPPORTED);
}

}  // namespace
}  // namespace penstock::test
