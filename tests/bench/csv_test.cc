// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/train/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace penstock::psbench {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Csv : public testing::Test {
 protected:
  ~Csv() override { unlink(path_.c_str()); }

  Result<Dataset> read(const std::string& text) {
    std::ofstream(path_, std::ios::binary) << text;
    return read_csv(path_);
  }

  const std::string path_ = testing::TempDir() + "penstock_csv_" + std::to_string(getpid());
};

TEST_F(Csv, ReadsFeaturesAndTheClassAtTheEnd) {
  const Dataset data = read("1,2.5,0\n-3,4e1,2\n").value();
  EXPECT_EQ(data.features, 2U);
  EXPECT_EQ(data.classes, 3U);
  EXPECT_THAT(data.labels, ElementsAre(0, 2));
  EXPECT_THAT(data.values, ElementsAre(1, 2.5, -3, 40));
  EXPECT_THAT(data.row(1), ElementsAre(-3, 40));
}

TEST_F(Csv, TakesBlanksBlankLinesCarriageReturnsAndNoNewlineAtTheEnd) {
  const Dataset data = read("\n 1 ,\t2 , 0\r\n\r\n3,4,1").value();
  EXPECT_THAT(data.values, ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(data.labels, ElementsAre(0, 1));
}

TEST_F(Csv, NamesFileLineAndReasonOfABrokenRow) {
  const std::pair<const char*, const char*> broken[] = {
      {"1,2\n1,x,0\n", ":2: 3 columns where the first row has 2"},
      {"1,0\n\nx,0\n", ":3: \"x\" is not a number"},
      {"1,0\n,0\n", ":2: \"\" is not a number"},
      {"1x,0\n", ":1: \"1x\" is not a number"},
      {"nan,0\n", ":1: \"nan\" is not finite"},
      {"inf,0\n", ":1: \"inf\" is not finite"},
      {"1e99,0\n", ":1: \"1e99\" is not a number"},
      {"1,\n", ":1: \"\" is not a class"},
      {"1,-1\n", ":1: \"-1\" is not a class"},
      {"1,0.5\n", ":1: \"0.5\" is not a class"},
      {"1,1000\n", ":1: \"1000\" is not a class; the largest is 999"},
      {"7\n", ":1: \"7\" has no comma"},
  };
  for (const auto& [text, message] : broken) {
    const Status status = read(text).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << text;
    EXPECT_THAT(status.what(), HasSubstr(path_ + message)) << text;
  }
}

TEST_F(Csv, RefusesAnEmptyFile) {
  EXPECT_EQ(read("").status().what(), path_ + ": no rows");
  EXPECT_EQ(read("\n\n").status().what(), path_ + ": no rows");
}

TEST_F(Csv, SaysThatAFileIsMissing) {
  const Status status = read_csv("/nonexistent/digits.csv").status();
  EXPECT_EQ(status.code(), Code::kSystem);
  EXPECT_THAT(status.to_string(), HasSubstr("/nonexistent/digits.csv"));
  EXPECT_THAT(status.to_string(), HasSubstr("No such file"));
}

TEST_F(Csv, RefusesADirectory) { EXPECT_FALSE(read_csv("/").ok()); }

TEST_F(Csv, ScalesByTheLargestMagnitude) {
  Dataset data = read("-4,2,0\n1,0,1\n").value();
  scale_to_unit(data);
  EXPECT_THAT(data.values, ElementsAre(-1, 0.5, 0.25, 0));
  data = read("0,0,0\n").value();
  scale_to_unit(data);
  EXPECT_THAT(data.values, ElementsAre(0, 0));
}

TEST(Digits, HasTheRowsItsSourceSays) {
  const Dataset data = read_csv(PENSTOCK_TEST_DATA "/digits.csv").value();
  EXPECT_EQ(data.rows(), 1797U);
  EXPECT_EQ(data.features, 64U);
  EXPECT_EQ(data.classes, 10U);
}

}  // namespace
}  // namespace penstock::psbench
