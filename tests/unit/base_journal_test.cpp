// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/journal.hpp"

#include <gmock/gmock.h>
#include <syslog.h>

namespace trireme {
namespace {

using ::testing::ElementsAre;

TEST(Journal, AnEntryHasNoControlCharacters) {
  EXPECT_THAT(
      journal_entry(LOG_ERR, "41226713f7d94ba38f6b7b4c460dacba",
                    "deny app=a\nallow app=\xE2\x80\xAE"
                    "b\x1B[2J",
                    {{"SOURCE", "web\xC2\x9B"}, {"FLOW", R"({"a":"\u202e"})"}}),
      ElementsAre("MESSAGE=deny app=a?allow app=?b?[2J", "PRIORITY=3", "SYSLOG_IDENTIFIER=triremed",
                  "MESSAGE_ID=41226713f7d94ba38f6b7b4c460dacba", "TRIREME_SOURCE=web?",
                  R"(TRIREME_FLOW={"a":"\u202e"})"));
  EXPECT_THAT(journal_entry(LOG_INFO, nullptr, "m", {}),
              ElementsAre("MESSAGE=m", "PRIORITY=6", "SYSLOG_IDENTIFIER=triremed"));
}

}  // namespace
}  // namespace trireme
