#include "cli/timeline.hpp"

#include <algorithm>

#include "agent/base/text.hpp"

namespace updagent::cli {
namespace {

constexpr std::int64_t kTimelineWidth = 40;

struct Note {
  std::int64_t at_us = 0;
  std::string text;
};

struct Bar {
  std::string stage;
  std::string status = "open";
  std::int64_t begin_us = 0;
  std::int64_t duration_us = 0;
  std::string message;
  std::vector<Note> notes;       // hooks, probes, gates, steps
  bool has_last_output = false;  // the candidate's
};

std::string text_of(const journal::Json& detail, const char* key) {
  const auto found = detail.find(key);
  return found != detail.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::string number_of(const journal::Json& detail, const char* key) {
  const auto found = detail.find(key);
  return found != detail.end() && found->is_number_integer()
             ? std::to_string(found->get<std::int64_t>())
             : std::string();
}

// "rollout.step  10 %: 31 of 302 new connections"
std::string step_note(const journal::Json& detail) {
  const std::string share = number_of(detail, "connections") + " of " + number_of(detail, "of");
  const auto proves = detail.find("proves");
  const bool proof = proves != detail.end() && *proves == true;
  return "  " + number_of(detail, "percent") + " %: " + share + " new connections" +
         (proof ? "" : ", which proves nothing");
}

std::string note_of(const journal::Event& event) {
  std::string note = event.event;
  if (event.event == "rollout.step") return note + step_note(event.detail);
  for (const char* key : {"hook", "probe", "gate", "version", "result", "problem", "by", "what"})
    if (const std::string text = text_of(event.detail, key); !text.empty()) note += "  " + text;
  return note;
}

// What a failed command said: programs name the error first or last.
std::vector<std::string> output_lines(const std::string& output) {
  constexpr std::size_t kEnds = 6;
  constexpr std::size_t kWidth = 160;
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < output.size();) {
    const std::size_t end = std::min(output.find('\n', at), output.size());
    if (end > at) lines.push_back("  | " + output.substr(at, std::min(end - at, kWidth)));
    at = end + 1;
  }
  if (lines.size() > 2 * kEnds) {
    const std::size_t left_out = lines.size() - 2 * kEnds;
    lines.erase(lines.begin() + kEnds, lines.end() - kEnds);
    lines.insert(lines.begin() + kEnds,
                 "  | ... " + std::to_string(left_out) + " more lines: log --json has them");
  }
  return lines;
}

void add_output(Bar& bar, std::int64_t at_us, const std::string& output) {
  for (std::string& line : output_lines(output)) bar.notes.push_back({at_us, std::move(line)});
}

void end_stage(Bar& bar, const journal::Event& event) {
  bar.status = event.status;
  bar.duration_us = event.duration_us;
  bar.message = text_of(event.detail, "message");
  const std::string last = text_of(event.detail, "candidate_output");
  bar.has_last_output = !last.empty();
  if (last.empty()) return;
  bar.notes.push_back({event.timestamp_us, "the candidate's last output:"});
  add_output(bar, event.timestamp_us, last);
}

std::vector<Bar> collect(const std::vector<journal::Event>& events) {
  std::vector<Bar> bars;
  for (const journal::Event& event : events) {
    if (event.event == "stage.started") {
      bars.push_back({event.stage, "open", event.timestamp_us, 0, "", {}});
    } else if (event.event == "stage.finished") {
      for (auto bar = bars.rbegin(); bar != bars.rend(); ++bar) {
        if (bar->stage != event.stage || bar->status != "open") continue;
        end_stage(*bar, event);
        break;
      }
    } else if (!event.stage.empty() && !bars.empty() && event.event != "hook.started") {
      bars.back().notes.push_back({event.timestamp_us, note_of(event)});
      if (event.status == "failure")
        add_output(bars.back(), event.timestamp_us, text_of(event.detail, "output"));
    }
  }
  return bars;
}

// The supervisor's events come into the log later than they were: their place is by time.
bool is_supervisors(const journal::Event& event) {
  return event.stage.empty() && event.actor == "supervisor";
}

std::string supervisor_note(const journal::Event& event) {
  std::string note = event.event;
  if (!event.to_version.empty()) note += "  " + event.to_version;
  for (const char* key : {"generation", "weight", "busy", "connections"})
    if (const auto found = event.detail.find(key);
        found != event.detail.end() && found->is_number_integer())
      note += "  " + std::string(key) + " " + std::to_string(found->get<std::int64_t>());
  for (const char* key : {"order", "actor", "reason", "problem", "what", "who"})
    if (const std::string text = text_of(event.detail, key); !text.empty()) note += "  " + text;
  return note;
}

// After those of the same moment.
void insert_by_time(std::vector<Note>& notes, Note note) {
  const auto later = [](std::int64_t at_us, const Note& other) { return at_us < other.at_us; };
  notes.insert(std::upper_bound(notes.begin(), notes.end(), note.at_us, later), std::move(note));
}

// With what a service said before it failed, unless the stage's end has that.
void add_supervisors(Bar& bar, const journal::Event& event) {
  insert_by_time(bar.notes, {event.timestamp_us, supervisor_note(event)});
  if (event.status != "failure" || bar.has_last_output) return;
  for (std::string& line : output_lines(text_of(event.detail, "output")))
    insert_by_time(bar.notes, {event.timestamp_us, std::move(line)});
}

// Those that came after the last stage (an old generation drains on) are left over.
std::vector<const journal::Event*> place_supervisors(const std::vector<journal::Event>& events,
                                                     std::vector<Bar>& bars) {
  std::vector<const journal::Event*> of_it;
  for (const journal::Event& event : events)
    if (is_supervisors(event)) of_it.push_back(&event);
  // events of one moment keep their order (clang warns of libstdc++'s stable_sort)
  std::sort(of_it.begin(), of_it.end(), [](const auto* a, const auto* b) {
    return a->timestamp_us != b->timestamp_us ? a->timestamp_us < b->timestamp_us : a < b;
  });
  std::vector<const journal::Event*> after;
  for (const journal::Event* event : of_it) {
    const auto next = std::find_if(bars.begin(), bars.end(), [&](const Bar& bar) {
      return bar.begin_us > event->timestamp_us;
    });
    const bool ended = next == bars.end() && !bars.empty() &&
                       event->timestamp_us > bars.back().begin_us + bars.back().duration_us;
    if (ended || next == bars.begin())
      after.push_back(event);
    else
      add_supervisors(*std::prev(next), *event);
  }
  return after;
}

std::string draw(const Bar& bar, std::int64_t start_us, std::int64_t whole_us) {
  const std::int64_t offset = (bar.begin_us - start_us) * kTimelineWidth / whole_us;
  const std::int64_t length =
      std::max<std::int64_t>(1, bar.duration_us * kTimelineWidth / whole_us);
  const auto from =
      static_cast<std::size_t>(std::clamp<std::int64_t>(offset, 0, kTimelineWidth - 1));
  const auto count = static_cast<std::size_t>(
      std::clamp<std::int64_t>(length, 1, kTimelineWidth - static_cast<std::int64_t>(from)));
  std::string text(static_cast<std::size_t>(kTimelineWidth), ' ');
  text.replace(from, count, count, bar.status == "failure" ? 'x' : '=');
  return text;
}

std::string fit(std::string_view text, std::size_t width) {
  std::string out(text);
  if (out.size() < width) out.append(width - out.size(), ' ');
  return out;
}

}  // namespace

std::vector<std::string> draw_timeline(const Session& session,
                                       const std::vector<journal::Event>& events,
                                       const journal::DeploymentRow* row) {
  std::vector<std::string> lines;
  const journal::Event& first = events.front();
  const std::string to = row != nullptr ? row->to_version : events.back().to_version;
  const std::string from = row != nullptr ? row->from_version : events.back().from_version;
  lines.push_back(session.bold(events.back().app + " " + (from.empty() ? "" : from + " -> ") + to) +
                  "   trace " + first.trace_id);
  lines.push_back(
      "began " + base::format_rfc3339(first.timestamp_us) + " by " + base::printable(first.actor) +
      (row != nullptr && !row->source.empty() ? ", from " + base::printable(row->source) : ""));
  std::vector<Bar> bars = collect(events);
  const std::vector<const journal::Event*> after = place_supervisors(events, bars);
  std::int64_t end_us = first.timestamp_us + 1;
  for (const Bar& bar : bars) end_us = std::max(end_us, bar.begin_us + bar.duration_us);
  const std::int64_t start_us = bars.empty() ? first.timestamp_us : bars.front().begin_us;
  for (const Bar& bar : bars) {
    std::string status = fit(bar.status, 8);
    if (bar.status == "success") status = session.good(status);
    if (bar.status == "failure") status = session.bad(status);
    lines.push_back("  " + fit(bar.stage, 12) + status + "|" +
                    draw(bar, start_us, std::max<std::int64_t>(1, end_us - start_us)) + "| " +
                    base::human_duration(bar.duration_us));
    for (const Note& note : bar.notes) lines.push_back("      " + base::printable(note.text));
    if (!bar.message.empty()) lines.push_back("      " + session.bad(base::printable(bar.message)));
  }
  for (const journal::Event& event : events) {
    if (event.event != "deployment.finished" && event.event != "notify.failed" &&
        event.event != "recover.started")
      continue;
    std::string line = event.event == "deployment.finished"
                           ? "ended " + base::format_rfc3339(event.timestamp_us) + " as " +
                                 session.bold(text_of(event.detail, "outcome"))
                           : event.event + " by " + base::printable(event.actor);
    const std::string reason = text_of(event.detail, "reason");
    if (!reason.empty()) line += ", reason: " + base::printable(reason);
    if (const std::string problem = text_of(event.detail, "problem"); !problem.empty())
      line += ": " + base::printable(problem);
    lines.push_back(line);
    if (const std::string message = text_of(event.detail, "message"); !message.empty())
      lines.push_back("  " + base::printable(message));
  }
  for (const journal::Event* event : after)
    lines.push_back("  +" + base::human_duration(event->timestamp_us - start_us) + "  " +
                    base::printable(supervisor_note(*event)));
  return lines;
}

}  // namespace updagent::cli
