// SPDX-License-Identifier: Apache-2.0
// What the shells are offered at each place of a command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "command.hpp"
#include "completion.hpp"
#include "usage.hpp"

namespace trireme::cli {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::UnorderedElementsAre;
using Kind = Completion::Kind;
using Line = std::vector<std::string>;

class Completing : public ::testing::Test {
 protected:
  Completing() { add_commands(app_, globals_, action_); }

  Completion at(const Line& line) {
    return complete(app_, line,
                    [this](const std::string& runtime_dir) { return names(runtime_dir); });
  }
  Completion at_trirun(const Line& line) {
    return complete_trirun(line,
                           [this](const std::string& runtime_dir) { return names(runtime_dir); });
  }

  static Line texts(const Completion& completion) {
    EXPECT_EQ(completion.kind, Kind::words);
    Line texts;
    for (const auto& word : completion.words) {
      texts.push_back(word.text);
    }
    return texts;
  }
  Line words(const Line& line) { return texts(at(line)); }

  nlohmann::json names(const std::string& runtime_dir) {
    ++asked_;
    runtime_dir_ = runtime_dir;
    return known_;
  }

  Globals globals_;
  Action action_;
  CLI::App app_;
  nlohmann::json known_ = {{"workloads", {"web.scope", "db@1.service"}},
                           {"labels", {"app=web", "image=x:1.2"}},
                           {"networks", {"@dns"}}};
  int asked_ = 0;
  std::string runtime_dir_;
};

TEST_F(Completing, Commands) {
  EXPECT_THAT(words({""}), IsSupersetOf({"status", "policy", "pki", "help", "version"}));
  EXPECT_THAT(words({""}), Not(Contains("unit-gate"))) << "hidden";
  EXPECT_THAT(words({"--json", "policy", "g"}), IsSupersetOf({"check", "graph"}));
  EXPECT_THAT(words({"--config-dir", "policy", "--runtime-dir=x", ""}), Contains("status"));
  EXPECT_THAT(words({"pki", "i"}), UnorderedElementsAre("init", "issue", "psk"));
  EXPECT_THAT(words({"help", ""}), Contains("flows"));
  EXPECT_THAT(words({"help", "policy", ""}), Contains("diff"));
  EXPECT_THAT(words({"help", "status", ""}), IsEmpty());
  EXPECT_EQ(asked_, 0) << "the daemon is asked for names only";
}

/// Every command of the program, with the words that lead to it.
void for_each_command(const CLI::App& app, Line path,
                      const std::function<void(const CLI::App&, const Line&)>& call) {
  call(app, path);
  for (const CLI::App* command : visible_commands(app)) {
    path.push_back(command->get_name());
    for_each_command(*command, path, call);
    path.pop_back();
  }
}

TEST_F(Completing, EveryOptionOfEveryCommand) {
  int options = 0;
  for_each_command(app_, {}, [&](const CLI::App& command, const Line& path) {
    Line line = path;
    line.emplace_back("-");
    const Line offered = words(line);
    for (const CLI::Option* option : command.get_options()) {
      if (!option->get_positional()) {
        EXPECT_THAT(offered, Contains(option->get_name())) << path_of(command);
        ++options;
      }
    }
  });
  EXPECT_GT(options, 100);
}

TEST_F(Completing, OptionsThatAreGivenAreNotOfferedAgain) {
  EXPECT_THAT(words({"flows", "--follow", "-"}), Not(Contains("--follow")));
  EXPECT_THAT(words({"flows", "-f", "-n5", "-"}), Not(Contains("--limit")));
  EXPECT_THAT(words({"flows", "--from", "app=web", "-"}), Contains("--from")) << "it can repeat";
  EXPECT_THAT(words({"flows", ""}), Contains("--live")) << "there is nothing else to offer";
}

TEST_F(Completing, FixedValues) {
  EXPECT_THAT(words({"flows", "--verdict", ""}), ElementsAre("allow", "deny", "audit"));
  EXPECT_THAT(words({"flows", "--verdict", "audit,d"}),
              ElementsAre("audit,allow", "audit,deny", "audit,audit"));
  EXPECT_THAT(words({"flows", "--verdict=d"}),
              ElementsAre("--verdict=allow", "--verdict=deny", "--verdict=audit"));
  EXPECT_THAT(words({"flows", "-oj"}), ElementsAre("-otable", "-owide", "-ojson"));
  EXPECT_THAT(words({"policy", "graph", "--format", ""}), Contains("html"));
  EXPECT_THAT(words({"flows", "--port", ""}), ElementsAre("tcp/", "udp/", "icmp", "icmpv6"));
  EXPECT_THAT(words({"flows", "--since", ""}), Contains("7d"));
  EXPECT_THAT(words({"flows", "--limit", ""}), IsEmpty());
}

TEST_F(Completing, NamesOfTheDaemon) {
  for (const Line& line : {Line{"flows", "--from", ""},
                           {"policy", "explain", "--to", "a"},
                           {"policy", "suggest", "--with", ""}}) {
    EXPECT_THAT(words(line), ElementsAre("@host", "@world", "web.scope", "db@1.service", "app=web",
                                         "image=x:1.2", "@dns"));
  }
  EXPECT_EQ(asked_, 3);
  EXPECT_THAT(words({"flows", "--from", "env=dev,a"}),
              ElementsAre("env=dev,app=web", "env=dev,image=x:1.2"));
  EXPECT_THAT(words({"flows", "--from=env=dev,a"}),
              ElementsAre("--from=env=dev,app=web", "--from=env=dev,image=x:1.2"));
  EXPECT_EQ(runtime_dir_, "");
  static_cast<void>(
      words({"--runtime-dir", "/run/a", "flows", "--runtime-dir=/run/b", "--to", ""}));
  EXPECT_EQ(runtime_dir_, "/run/b") << "the instance of this command line is asked";
  known_ = nlohmann::json::object();
  EXPECT_THAT(words({"flows", "--to", ""}), ElementsAre("@host", "@world")) << "no daemon";
}

TEST_F(Completing, ReleaseOffersWhatIsInQuarantine) {
  known_["held"] = nlohmann::json::array({"shop.service"});
  EXPECT_THAT(words({"release", ""}), ElementsAre("shop.service"));
  EXPECT_THAT(words({"quarantine", ""}), ElementsAre("web.scope", "db@1.service"));
}

TEST_F(Completing, FilesAndDirectories) {
  for (const auto& [line, kind, skip] : std::vector<std::tuple<Line, Kind, std::size_t>>{
           {{"--config-dir", ""}, Kind::directories, 0},
           {{"status", "--runtime-dir=/r"}, Kind::directories, 14},
           {{"policy", "check", "/e"}, Kind::directories, 0},
           {{"policy", "diff", ""}, Kind::directories, 0},
           {{"policy", "test", ""}, Kind::files, 0},
           {{"policy", "test", "a.toml", "b"}, Kind::files, 0},
           {{"policy", "convert", ""}, Kind::files, 0},
           {{"pki", "init", ""}, Kind::directories, 0},
           {{"pki", "issue", "ca", "--out", ""}, Kind::directories, 0},
           {{"pki", "psk", "--", "-x"}, Kind::files, 0}}) {
    const Completion completion = at(line);
    EXPECT_EQ(completion.kind, kind) << line.back();
    EXPECT_EQ(completion.skip, skip);
    EXPECT_THAT(completion.words, IsEmpty());
  }
}

TEST_F(Completing, Trirun) {
  EXPECT_THAT(texts(at_trirun({"-"})), IsSupersetOf({"--label", "-l", "--uid", "--help"}));
  EXPECT_THAT(texts(at_trirun({"--label", ""})), ElementsAre("app=web", "image=x:1.2"));
  EXPECT_THAT(texts(at_trirun({"-l", "a=b", "-p", "Mem"})), Contains("MemoryMax="));
  EXPECT_EQ(at_trirun({"--uid", ""}).kind, Kind::users);
  EXPECT_EQ(at_trirun({"--gid=a"}).kind, Kind::groups);
  EXPECT_EQ(at_trirun({"--gid=a"}).skip, 6U);
  for (const auto& [line, skip] :
       std::vector<std::pair<Line, std::size_t>>{{{""}, 1},
                                                 {{"-l", "a=b", "s"}, 3},
                                                 {{"-l", "a=b", "--", ""}, 4},
                                                 {{"-l", "a=b", "--", "-"}, 4},
                                                 {{"-l", "a=b", "ssh", "-l"}, 3},
                                                 {{"-la=b", "ssh", "-l", ""}, 2}}) {
    const Completion completion = at_trirun(line);
    EXPECT_EQ(completion.kind, Kind::command) << line.back();
    EXPECT_EQ(completion.skip, skip) << line.back();
  }
}

TEST_F(Completing, TextForTheShells) {
  const Completion completion{.words = {{"--json", "alike\nwith -o json"}, {"a\tend", ""}}};
  EXPECT_EQ(completion.text(), "words 0\n--json\talike with -o json\na\tend\t\n");
  EXPECT_EQ((Completion{.kind = Kind::command, .skip = 3}.text()), "command 3\n");
}

TEST_F(Completing, NamesThatSystemdHasEscaped) {
  known_ = {{"workloads", {"batch\\x2djob@1.service"}}};
  EXPECT_THAT(words({"flows", "--from", "ba"}), Contains("batch\\x2djob@1.service"))
      << "the functions of the shells quote the backslash";
}

/// bash puts words into the command line unquoted, and runs it.
TEST_F(Completing, LeavesOutWordsThatAShellWouldInterpret) {
  Line bad;
  for (const char* part : {"$(id)",    "`id`", ";id",  "|id",   "&id",     ">x",  "<x",
                           " x",       "'",    "\"",   "\\",    "*",       "?",   "[x]",
                           "{a}",      "~",    "!1",   "#x",    "\tx",     "\nx", "\x1b[1m",
                           "\xC2\x9B", "\x7F", "\\x2", "\\x2g", "\\$(id)", "\\n", "\xE2\x80\xAE"}) {
    bad.push_back(std::string("app=") + part);
  }
  for (const std::string& label : bad) {
    known_ = {{"labels", {label, "app=ok", "app=\u00FC"}}};
    EXPECT_THAT(words({"flows", "--from", ""}),
                ElementsAre("@host", "@world", "app=ok", "app=\u00FC"))
        << label;
    EXPECT_THAT(texts(at_trirun({"--label=app"})),
                ElementsAre("--label=app=ok", "--label=app=\u00FC"))
        << label;
  }
}

}  // namespace
}  // namespace trireme::cli
