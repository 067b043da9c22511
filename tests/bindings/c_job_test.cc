// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <string>
#include <thread>

#include "tests/bindings/c_job.h"

namespace penstock::test {
namespace {

using ::testing::HasSubstr;

TEST(CAbiJob, RoundsRunAndAreWaitedForByDeadline) {
  CJob job;
  CTensor gradients({3});
  CTensor parameters({3});
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

TEST(CAbiJob, RequestsAreAnswered) {
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
  EXPECT_EQ(
      penstock_worker_request(job.worker, 0, 1U << 31, {"go", 2}, nullptr, 0, nullptr, 0, &number),
      PENSTOCK_INVALID_ARGUMENT);
  EXPECT_EQ(penstock_worker_request(job.worker, 4, 3, {"go", 2}, &array, 1, nullptr, 0, &number),
            PENSTOCK_NOT_FOUND);
  EXPECT_EQ(calls, 3);
}

TEST(CAbiJob, PublicationsAreFetchedByNameAndVersion) {
  CJob job;
  CTensor weights({300, 100});
  std::fill(weights.data.begin(), weights.data.end(), 2.5F);
  CTensor copy({300, 100});
  std::uint64_t found = 0;
  const auto fetch = [&](const char* name, std::uint64_t version, CTensor& into, int timeout_ms) {
    return penstock_worker_fetch(job.worker, name, version, &into.view, timeout_ms, &found);
  };
  const auto publish = [&](std::uint64_t version) {
    return penstock_worker_publish(job.worker, "w", version, &weights.view,
                                   PENSTOCK_DEFAULT_TIMEOUT);
  };
  EXPECT_EQ(fetch("w", 0, copy, 50), PENSTOCK_TIMEOUT);
  EXPECT_THAT(penstock_last_error(), HasSubstr("version 0 of \"w\""));
  ASSERT_EQ(publish(3), PENSTOCK_OK) << penstock_last_error();
  EXPECT_EQ(publish(3), PENSTOCK_STALE);
  EXPECT_THAT(penstock_last_error(), HasSubstr("version 3 of \"w\" is published already"));
  std::fill(weights.data.begin(), weights.data.end(), 0.0F);  // the server has its own
  ASSERT_EQ(fetch("w", 2, copy, PENSTOCK_DEFAULT_TIMEOUT), PENSTOCK_OK) << penstock_last_error();
  EXPECT_EQ(found, 3U);
  EXPECT_EQ(copy.data, std::vector<float>(30'000, 2.5F));

  CTensor other({100, 300});
  EXPECT_EQ(fetch("w", 0, other, PENSTOCK_DEFAULT_TIMEOUT), PENSTOCK_MISMATCH);
  EXPECT_EQ(other.data, std::vector<float>(30'000, 0.0F));
  other.view.dtype = {kDLInt, 3, 1};
  EXPECT_EQ(fetch("w", 0, other, PENSTOCK_DEFAULT_TIMEOUT), PENSTOCK_UNSUPPORTED);
  EXPECT_EQ(fetch("", 0, copy, PENSTOCK_DEFAULT_TIMEOUT), PENSTOCK_INVALID_ARGUMENT);
  EXPECT_EQ(fetch(nullptr, 0, copy, PENSTOCK_DEFAULT_TIMEOUT), PENSTOCK_INVALID_ARGUMENT);

  EXPECT_EQ(penstock_worker_withdraw(job.worker, "w", PENSTOCK_DEFAULT_TIMEOUT), PENSTOCK_OK);
  EXPECT_EQ(penstock_worker_withdraw(job.worker, "w", PENSTOCK_DEFAULT_TIMEOUT),
            PENSTOCK_NOT_FOUND);
  ASSERT_EQ(publish(1), PENSTOCK_OK) << "a name that was withdrawn begins anew";
}

TEST(CAbiJob, StateIsReadAndPutBack) {
  CJob job;
  CTensor gradients({2, 3});
  CTensor parameters({2, 3});
  gradients.data = {1, 2, 3, 4, 5, 6};
  penstock_tensor* tensor = nullptr;
  ASSERT_EQ(penstock_tensor_create(5, &gradients.view, &parameters.view, &tensor), PENSTOCK_OK);
  ASSERT_EQ(penstock_tensor_set(tensor, "optimizer", "momentum:learning_rate=1"), PENSTOCK_OK);
  ASSERT_EQ(penstock_worker_declare(job.worker, &tensor, 1), PENSTOCK_OK) << penstock_last_error();
  penstock_tensor_destroy(tensor);
  const auto step = [&](std::uint64_t round) {
    ASSERT_EQ(penstock_worker_push_pull(job.worker, 5, round), PENSTOCK_OK);
    ASSERT_EQ(penstock_worker_wait(job.worker, 5, round, PENSTOCK_DEFAULT_TIMEOUT), PENSTOCK_OK);
  };
  step(1);
  penstock_key_state* state = nullptr;
  ASSERT_EQ(penstock_worker_read_state(job.worker, 5, PENSTOCK_DEFAULT_TIMEOUT, &state),
            PENSTOCK_OK)
      << penstock_last_error();
  EXPECT_EQ(penstock_key_state_steps(state), 1U);
  ASSERT_EQ(penstock_key_state_count(state), 2U);
  DLTensor planes[2];
  for (std::size_t i = 0; i < 2; ++i) {
    ASSERT_EQ(penstock_key_state_get(state, i, &planes[i]), PENSTOCK_OK);
    ASSERT_EQ(planes[i].ndim, 1);
    EXPECT_EQ(planes[i].shape[0], 6);
  }
  EXPECT_EQ(penstock_key_state_get(state, 2, &planes[0]), PENSTOCK_NOT_FOUND);
  EXPECT_EQ(static_cast<float*>(planes[0].data)[2], parameters.data[2]);
  EXPECT_EQ(static_cast<float*>(planes[1].data)[2], 3.0F);
  step(2);
  const std::vector<float> second = parameters.data;
  ASSERT_EQ(penstock_worker_write_state(job.worker, 5, 1, planes, 2, PENSTOCK_DEFAULT_TIMEOUT),
            PENSTOCK_OK)
      << penstock_last_error();
  step(3);
  EXPECT_EQ(parameters.data, second);
  EXPECT_EQ(penstock_worker_write_state(job.worker, 5, 1, planes, 1, PENSTOCK_DEFAULT_TIMEOUT),
            PENSTOCK_INVALID_ARGUMENT);
  EXPECT_EQ(penstock_worker_read_state(job.worker, 6, PENSTOCK_DEFAULT_TIMEOUT, &state),
            PENSTOCK_NOT_FOUND);
  penstock_key_state_destroy(state);
}

TEST(CAbiJob, AFetchWaitsForItsVersion) {
  CJob job;
  CTensor weights({4});
  CTensor copy({4});
  std::uint64_t found = 0;
  int fetched = -1;
  std::thread reader([&] {
    fetched =
        penstock_worker_fetch(job.worker, "w", 2, &copy.view, PENSTOCK_DEFAULT_TIMEOUT, &found);
  });
  for (std::uint64_t version = 1; version <= 2; ++version) {
    weights.data[0] = static_cast<float>(version);
    EXPECT_EQ(
        penstock_worker_publish(job.worker, "w", version, &weights.view, PENSTOCK_DEFAULT_TIMEOUT),
        PENSTOCK_OK);
  }
  reader.join();
  EXPECT_EQ(fetched, PENSTOCK_OK);
  EXPECT_EQ(found, 2U);
  EXPECT_EQ(copy.data[0], 2.0F);
}

TEST(CAbiJob, AServerThatEndsDropsFetchesThatWait) {
  CJob job;
  CTensor copy({4});
  std::uint64_t found = 0;
  EXPECT_EQ(penstock_worker_fetch(job.worker, "never", 1, &copy.view, 1, &found), PENSTOCK_TIMEOUT);
}  // the server still holds the request: nothing crashes, nothing is left

TEST(CAbiJob, AServerWithoutAHandlerRefuses) {
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
