// SPDX-License-Identifier: Apache-2.0
// The command lines of trirun and trirectl: what is valid, and what a wrong one is answered.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "command.hpp"
#include "trirun_options.hpp"
#include "usage.hpp"
#include "values.hpp"

namespace trireme::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A command line as main() gets it.
class Words {
 public:
  explicit Words(std::vector<std::string> words) : words_(std::move(words)) {
    words_.insert(words_.begin(), "trirun");
    for (std::string& word : words_) {
      pointers_.push_back(word.data());
    }
    pointers_.push_back(nullptr);
  }
  Result<TrirunOptions> parse() {
    return parse_trirun(static_cast<int>(words_.size()), pointers_.data());
  }

 private:
  std::vector<std::string> words_;
  std::vector<char*> pointers_;
};

std::vector<std::string> command_of(const TrirunOptions& options) {
  EXPECT_EQ(options.command.back(), nullptr);
  return {options.command.begin(), options.command.end() - 1};
}

TEST(Trirun, OptionsInEveryForm) {
  Words words({"-l", "app=web", "-lenv=dev", "--label=tier=a:b", "--label", "x=y", "-p",
               "MemoryMax=1G", "--property=Description=a, [b]", "--unit", "shop", "--slice=batch",
               "--uid", "nobody", "--gid=12", "--runtime-dir", "/run/x", "true"});
  const auto options = words.parse();
  ASSERT_TRUE(options) << options.error().text();
  EXPECT_EQ(options->labels.text(), "app=web,env=dev,tier=a:b,x=y");
  EXPECT_THAT(options->properties,
              ElementsAre("MemoryMax=1G", "Description=a, [b]", "Slice=batch"));
  EXPECT_EQ(options->unit, "shop");
  EXPECT_EQ(options->user, "nobody");
  EXPECT_EQ(options->group, "12");
  EXPECT_EQ(options->runtime_dir, "/run/x");
  EXPECT_THAT(command_of(*options), ElementsAre("true"));
}

TEST(Trirun, TheCommandIsLeftAlone) {
  const std::vector<std::string> command = {"cmd", "-l",    "x",     "--",   "--help", "[a,b]",
                                            "{}",  "a=b,c", "--uid", "root", "",       "%%"};
  for (const bool marked : {false, true}) {
    std::vector<std::string> line = {"-l", "app=web"};
    if (marked) {
      line.emplace_back("--");
    }
    line.insert(line.end(), command.begin(), command.end());
    Words words(line);
    const auto options = words.parse();
    ASSERT_TRUE(options) << options.error().text();
    EXPECT_EQ(command_of(*options), command);
    EXPECT_FALSE(options->user);
  }
  Words twice({"-l", "app=web", "--", "--", "x"});
  const auto options = twice.parse();
  ASSERT_TRUE(options);
  EXPECT_THAT(command_of(*options), ElementsAre("--", "x")) << "only the first -- is trirun's";
}

TEST(Trirun, WrongUsageSaysWhatIsWrong) {
  for (const auto& [line, text] : std::vector<std::pair<std::vector<std::string>, const char*>>{
           {{}, "at least one --label is required"},
           {{"--label", "app=web"}, "missing command"},
           {{"--label", "app=web", "--"}, "missing command"},
           {{"--", "true"}, "at least one --label is required"},
           {{"--label", "=x", "--", "true"}, "--label: "},
           {{"--label", "app", "--", "true"}, "--label: "},
           {{"--label", "{}", "--", "true"}, "--label: "},
           {{"--label", "[a=b]", "--", "true"}, "--label: "},
           {{"--label", "a=1", "--label", "a=2", "--", "true"}, "'a' is given more than once"},
           {{"--label"}, "option '--label' needs a value"},
           {{"-l"}, "option '--label' needs a value"},
           {{"--label=", "true"}, "option '--label' needs a value"},
           {{"--label", "", "--", "true"}, "--label: "},
           {{"--nonsense", "--", "true"}, "unknown option '--nonsense' of 'trirun'"},
           {{"--lable", "a=b", "true"}, "did you mean '--label'?"},
           {{"--lab", "a=b", "true"}, "did you mean '--label'?"},
           {{"-x", "-l", "a=b", "true"}, "unknown option '-x'"},
           {{"-1", "-l", "a=b", "true"}, "'-1'"},
           {{"-l", "a=b", "-p", "Nonsense", "true"}, "invalid property 'Nonsense'"},
           {{"-l", "a=b", "-p", "=x", "true"}, "invalid property '=x'"},
           {{"-l", "a=b", "--unit", "", "true"}, "--unit: the value must not be empty"},
           {{"-l", "a=b", "--uid=", "root", "true"}, "option '--uid' needs a value"},
           {{"-l", "a=b", "--gid", "", "true"}, "--gid: the value must not be empty"}}) {
    Words words(line);
    const auto options = words.parse();
    ASSERT_FALSE(options) << text;
    EXPECT_THAT(options.error().message, HasSubstr(text));
    EXPECT_FALSE(options.error().hint.empty()) << options.error().message;
  }
}

TEST(Trirun, PropertiesAreForTheDaemonToRefuse) {
  for (const std::string property : {"Slice=system.slice", "User=root", "ExecStartPre=/bin/true",
                                     "Description=a\n[Unit]\nforged", "PIDs=1"}) {
    Words words({"-l", "a=b", "-p", property, "--unit", "../../x", "true"});
    const auto options = words.parse();
    ASSERT_TRUE(options) << property;
    EXPECT_THAT(options->properties, ElementsAre(property));
    EXPECT_EQ(options->unit, "../../x");
  }
}

TEST(Trirun, OfAnOptionThatIsGivenTwiceTheLastCounts) {
  Words words({"--unit", "a", "--unit", "b", "-l", "a=b", "true"});
  EXPECT_EQ(words.parse()->unit, "b");
}

TEST(Trirun, HelpAndVersionNeedNothingElse) {
  Words help({"--help"});
  EXPECT_THAT(help.parse()->text, HasSubstr("[--] COMMAND [ARG...]"));
  Words version({"--version", "--", "true"});
  EXPECT_EQ(version.parse()->text, "trirun " TRIREME_VERSION "\n");
}

TEST(Trirun, TheHelpFitsATerminal) {
  Words help({"--help"});
  std::istringstream text(help.parse()->text);
  for (std::string line; std::getline(text, line);) {
    EXPECT_LE(line.size(), 80U) << line;
  }
}

/// The error of trirectl for these words; an empty one if they are valid. Runs nothing.
Error error_for(std::vector<std::string> words) {
  Globals globals;
  Action action;
  CLI::App app;
  add_commands(app, globals, action);
  if (const auto empty = find_empty_value(app, words)) {
    return *empty;
  }
  std::reverse(words.begin(), words.end());
  try {
    app.parse(words);
  } catch (const CLI::ParseError& error) {
    return usage_error(app, error);
  }
  return check_globals(app).value_or(Error{});
}

TEST(Trirectl, WrongUsageSaysWhatIsMeant) {
  for (const auto& [line, text] : std::vector<std::pair<std::vector<std::string>, const char*>>{
           {{"statu"}, "unknown command 'statu'; did you mean 'status'?"},
           {{"explain"}, "unknown command 'explain'; the command is 'trirectl policy explain'"},
           {{"check", "/etc/trireme"}, "the command is 'trirectl policy check'"},
           {{"diff"}, "the command is 'trirectl policy diff'"},
           {{"suggest", "--since", "7d"}, "the command is 'trirectl policy suggest'"},
           {{"graph"}, "the command is 'trirectl policy graph'"},
           {{"test"}, "the command is 'trirectl policy test'"},
           {{"convert", "x"}, "the command is 'trirectl policy convert'"},
           {{"policy", "status"}, "the command is 'trirectl status'"},
           {{"issue"}, "the command is 'trirectl pki issue'"},
           {{"unit-gatee"}, "available: status, "},
           {{"policy"}, "missing command: one of check, lint, test, explain"},
           {{"flows", "--verdict", "denied"},
            "--verdict: invalid value 'denied'; use allow, deny or audit"},
           {{"flows", "--verdict", "audit,no"}, "use allow, deny or audit"},
           {{"flows", "--protocol", "sctp"}, "use tcp, udp, icmp or icmpv6"},
           {{"flows", "--port", "nosuchname"}, "use a number or a name from /etc/services"},
           {{"flows", "--port", "80,tcp:80"}, "did you mean tcp/80?"},
           {{"flows", "--since", "yesterday"}, "invalid time span 'yesterday'"},
           {{"flows", "--since", "1w"}, "invalid time span '1w'"},
           {{"flows", "-n", "many"}, "--limit: invalid number 'many'"},
           {{"flows", "--live", "--follow"}, "cannot be combined"},
           {{"flows", "--from=", "--to", "a=b"}, "option '--from' needs a value"},
           {{"flows", "--from"}, "option '--from' needs a value"},
           {{"policy", "explain", "--from", "a=b", "--to", "c=d", "--port", "1-2"},
            "'1-2' is more than one port"},
           {{"policy", "graph", "--format", "png"}, "png"},
           {{"-o", "yaml", "status"}, "use table, wide or json"},
           {{"status", "--json", "-o", "table"}, "cannot be combined"},
           {{"--json", "status", "-o", "wide"}, "cannot be combined"},
           {{"--config-dir", "/x", "pki", "psk", "y"}, "has no option '--config-dir'"},
           {{"reload", "now"}, "unexpected argument 'now'"}}) {
    const Error error = error_for(line);
    EXPECT_TRUE(error.usage) << text;
    EXPECT_THAT(error.message, HasSubstr(text));
    EXPECT_THAT(error.hint, HasSubstr("--help'")) << text;
  }
}

TEST(Trirectl, ValidLines) {
  for (const std::vector<std::string>& line :
       {std::vector<std::string>{"-o", "json", "status"},
        {"status", "--json", "-o", "json"},
        {"-o", "wide", "workloads", "-o", "table"},
        {"--config-dir", "/x", "policy", "check", "--config-dir", "/y"},
        {"status", "--check"},
        {"help", "policy", "diff"},
        {"version"},
        {"flows", "--port", "https,53/udp,8000-8010", "--verdict", "deny,audit", "--since", "90"},
        {"policy", "suggest", "--port", "domain"},
        {"policy", "explain", "--from", "a=b", "--to", "c=d", "--port", "https"}}) {
    EXPECT_EQ(error_for(line).message, "");
  }
}

TEST(Trirectl, TheLastFormatCounts) {
  for (const auto& [line, json, wide] :
       std::vector<std::tuple<std::vector<std::string>, bool, bool>>{
           {{"-o", "json", "workloads"}, true, false},
           {{"--json", "workloads"}, true, false},
           {{"-ojson", "workloads", "-o", "wide"}, false, true},
           {{"workloads", "-o", "wide", "--output=table"}, false, false}}) {
    Globals globals;
    Action action;
    CLI::App app;
    add_commands(app, globals, action);
    std::vector<std::string> words(line.rbegin(), line.rend());
    app.parse(words);
    EXPECT_EQ(globals.json, json);
    EXPECT_EQ(globals.wide, wide);
  }
}

TEST(Trirectl, ExitsWith2ForWrongUsageOnly) {
  EXPECT_EQ(trirectl({"trirectl", "version"}), kYes);
  EXPECT_EQ(trirectl({"trirectl", "help", "policy", "diff"}), kYes);
  EXPECT_EQ(trirectl({"trirectl", "status", "--help"}), kYes);
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"trirectl"},
        {"trirectl", "nonsense"},
        {"trirectl", "help", "nonsense"},
        {"trirectl", "flows", "--port", "no such port"},
        {"trirectl", "--json", "status", "-o", "wide"},
        {"trirectl", "pki", "init", "/nowhere/ca", "--name", "a b"},
        {"trirectl", "policy", "explain", "--config-dir", "/etc", "--from", "@nowhere", "--to",
         "@host", "--port", "80"}}) {
    EXPECT_EQ(trirectl(words), kUsage) << words.back();
  }
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"trirectl", "--runtime-dir", "/nowhere", "status"},
        {"trirectl", "--runtime-dir", "/nowhere", "status", "--check"},
        {"trirectl", "policy", "check", "/nowhere"}}) {
    EXPECT_EQ(trirectl(words), kNo) << words.back();
  }
}

struct Printed {
  int code = 0;
  std::string out;
  std::string err;
};

Printed run_trirectl(std::vector<std::string> words) {
  words.insert(words.begin(), "trirectl");
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  const int code = trirectl(words);
  return {.code = code,
          .out = ::testing::internal::GetCapturedStdout(),
          .err = ::testing::internal::GetCapturedStderr()};
}

TEST(Trirectl, WrongUsageIsJsonWhereJsonIsAskedFor) {
  for (const std::vector<std::string>& line : {std::vector<std::string>{"--json", "nonsense"},
                                               {"flows", "-o", "json", "--nonsense"},
                                               {"flows", "-ojson", "--port", "no such port"},
                                               {"flows", "-fo", "json", "--live"},
                                               {"flows", "--output=json", "--from="},
                                               {"flows", "--output", "json", "--from"},
                                               {"status", "-o", "wide", "--json"},
                                               {"-o", "json"}}) {
    const Printed printed = run_trirectl(line);
    EXPECT_EQ(printed.code, kUsage) << line.back();
    const auto object = nlohmann::json::parse(printed.out, nullptr, false);
    ASSERT_TRUE(object.is_object() && object.contains("error")) << line.back() << printed.out;
    EXPECT_EQ(object["error"].value("kind", ""), "usage") << line.back();
    EXPECT_THAT(printed.err, ::testing::StartsWith("trirectl: ")) << line.back();
  }
  for (const std::vector<std::string>& line : {std::vector<std::string>{"nonsense"},
                                               {"flows", "--from", "json", "--nonsense"},
                                               {"flows", "-o", "wide", "--nonsense"},
                                               {"flows", "--nonsense", "--", "--json"}}) {
    EXPECT_EQ(run_trirectl(line).out, "") << line.back();
  }
}

// A path can come from a repository, and is printed on a terminal.
TEST(Trirectl, PathsArePrintedWithoutControlCharacters) {
  const Printed check = run_trirectl({"policy", "check", "/nowhere\x1B[1m\xC2\x9B"});
  EXPECT_EQ(check.code, kNo);
  EXPECT_THAT(check.out, HasSubstr("/nowhere?[1m?: invalid, "));
  EXPECT_EQ((check.out + check.err).find_first_of("\x1B\xC2"), std::string::npos);

  const std::string file = ::testing::TempDir() + "trirectl-psk\x1B" + std::to_string(::getpid());
  const Printed psk = run_trirectl({"pki", "psk", file});
  EXPECT_EQ(psk.code, kYes) << psk.err;
  EXPECT_THAT(psk.out, HasSubstr("trirectl-psk?"));
  EXPECT_EQ(::unlink(file.c_str()), 0);
}

TEST(Trirectl, FindsCommandsForHelp) {
  Globals globals;
  Action action;
  CLI::App app;
  add_commands(app, globals, action);
  const auto diff = find_command(app, std::vector<std::string>{"policy", "diff"});
  ASSERT_TRUE(diff);
  EXPECT_EQ(path_of(**diff), "trirectl policy diff");
  EXPECT_FALSE(find_command(app, std::vector<std::string>{"policy", "dif"}));
  EXPECT_FALSE(find_command(app, std::vector<std::string>{"status", "x"}));
  EXPECT_FALSE(find_command(app, std::vector<std::string>{"unit-gate"})) << "it is hidden";
}

TEST(TimeSpan, FitsATimeInNanoseconds) {
  EXPECT_EQ(parse_time_span("7d").value(), std::chrono::hours(7 * 24));
  EXPECT_EQ(parse_time_span("1000000000").value(), std::chrono::seconds(1'000'000'000));
  for (const char* text : {"200000d", "1000000000m", "1000000001", "-1s", "7w", "", "d"}) {
    EXPECT_FALSE(parse_time_span(text)) << text;
  }
}

}  // namespace
}  // namespace trireme::cli
