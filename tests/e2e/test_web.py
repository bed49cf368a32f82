"""The pages: forms with httpx, as a browser without scripts would send them, and one way through a real browser."""

import html
import os
import re
import shutil

import httpx
import pytest
from conftest import running_server
from people import PASSWORD, Person, addresses, check, fresh_email
from support import execute, wait_until

KEY = re.compile(r"ww_[0-9A-Za-z]{40}")
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    settings = {"TRUSTED_PROXIES": "127.0.0.1", "RATE_LIMITS": "on"}
    with running_server(tmp_path_factory.mktemp("web"), settings) as server:
        yield server


class Visitor:
    """A browser without scripts, with an address of its own: keeps cookies, sends forms, follows nothing."""

    def __init__(self, site, **headers):
        self.url = site.url
        self.address = next(addresses)
        self.http = httpx.Client(base_url=site.url, timeout=30, headers={"X-Forwarded-For": self.address} | headers)

    def get(self, path, **options):
        return self.http.get(path, **options)

    def post(self, path, form, **headers):
        """A form of a page of this server."""
        return self.http.post(path, data=form, headers={"Origin": self.url} | headers)

    def token(self):
        return re.search(r'name="csrf" value="([0-9a-f]{64})"', check(self.get("/api-keys"), 200).text)[1]

    def register(self, email=None):
        return self.post("/register", {"email": email or fresh_email(), "password": PASSWORD})

    def keys(self):
        """The rows of the table: name, state, id (None where it is not live)."""
        rows = re.findall(r'<tr class="(\w+)">(.*?)</tr>', self.get("/api-keys").text, re.DOTALL)
        return [
            (
                html.unescape(re.search(r'scope="row"[^>]*>([^<]*)<', row)[1]),
                state,
                (re.search(r'name="id" value="(\w+)"', row) or [None, None])[1],
            )
            for state, row in rows
        ]


@pytest.fixture
def visitor(site):
    return Visitor(site)


@pytest.fixture
def member(visitor):
    check(visitor.register(), 201)
    return visitor


def is_page(answer):
    assert answer.headers["content-type"] == "text/html; charset=utf-8", answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy and answer.headers.get_list("content-security-policy") == [policy]
    assert answer.headers.get_list("referrer-policy") == ["same-origin"]
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "DENY"
    assert answer.text.startswith("<!doctype html>") and "{{title" not in answer.text
    return answer


def refused(answer, status, words=None):
    is_page(check(answer, status))
    assert not words or words in html.unescape(answer.text), answer.text
    return answer


# --- the way in -----------------------------------------------------------------------------------


def test_u02_get_a_key_and_run(site, guest):
    visitor = Visitor(site)
    assert check(visitor.get("/"), 303).headers["location"] == "/login"
    assert check(visitor.get("/api-keys"), 303).headers["location"] == "/login"
    email = fresh_email()
    first = KEY.search(is_page(check(visitor.register(email), 201)).text)[0]
    assert check(visitor.get("/"), 303).headers["location"] == "/api-keys"
    page = is_page(check(visitor.get("/api-keys"), 200))
    assert email in page.text and not KEY.search(page.text) and page.headers["cache-control"] == "no-store"
    made = visitor.post("/generate-key", {"csrf": visitor.token(), "name": "build", "expires_days": "30"})
    key = KEY.search(is_page(check(made, 201)).text)[0]
    assert key != first and made.headers["cache-control"] == "no-store"
    assert [row[:2] for row in visitor.keys()] == [("build", "active"), ("default", "active")]
    with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        answer = execute(client, site, guest("wat_echo"), b"an input")
        assert answer.status_code == 200
        assert answer.json()["output"] == "an input" and answer.json()["error"] is None
        for name in ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"):
            assert int(answer.headers[name]) >= 0 and answer.headers["X-" + name] == answer.headers[name]
    wait_until(lambda: "<h2 id=\"days-title\">1 run</h2>" in visitor.get("/usage").text, "the run is in the usage")
    day = re.search(r'data-label="Day">([\d-]+)</th>\s*<td data-label="Runs">1</td>', visitor.get("/usage").text)[1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", day)
    other = Visitor(site)
    check(other.register(), 201)
    assert "There are none yet." in is_page(check(other.get("/usage"), 200)).text  # each sees the own
    assert check(Visitor(site).get("/usage"), 303).headers["location"] == "/login"
    # and away with it
    live = visitor.keys()[0][2]
    done = visitor.post("/api-keys/revoke", {"csrf": visitor.token(), "id": live})
    assert check(done, 303).headers["location"] == "/api-keys"
    assert visitor.keys()[0] == ("build", "revoked", None)
    with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        assert execute(client, site, guest("wat_echo"), b"x").status_code == 401


def test_the_cookie(site):
    for headers, name, secure in (({}, "wasmwiz", False), ({"X-Forwarded-Proto": "https"}, "__Host-wasmwiz", True)):
        visitor = Visitor(site, **headers)
        email = fresh_email()
        answer = visitor.post("/register", {"email": email, "password": PASSWORD}, **{"Sec-Fetch-Site": "same-origin"})
        cookie = check(answer, 201).headers["set-cookie"]
        parts = [part.strip() for part in cookie.split(";")]
        assert re.fullmatch(name + "=[0-9a-f]{64}", parts[0])
        assert {"Path=/", "HttpOnly", "SameSite=Lax"} <= set(parts) and ("Secure" in parts) == secure
        assert not any(part.startswith("Domain") for part in parts)
        assert ("strict-transport-security" in answer.headers) == secure


def test_log_in_and_out(site, member):
    old = dict(member.http.cookies)
    token = member.token()
    out = check(member.post("/logout", {"csrf": token}), 303)
    assert out.headers["location"] == "/login" and "Max-Age=0" in out.headers["set-cookie"]
    member.http.cookies.update(old)
    assert check(member.get("/api-keys"), 303).headers["location"] == "/login"  # it is gone here, too
    refused(member.post("/generate-key", {"csrf": token, "name": "late"}), 401, "Log in")


def test_wrong_password_and_no_account_look_alike(site):
    email = fresh_email()
    check(Visitor(site).register(email), 201)
    texts = []
    for address in (email, fresh_email()):
        visitor = Visitor(site)
        answer = refused(visitor.post("/login", {"email": address, "password": "wrong " + PASSWORD}), 401)
        assert "set-cookie" not in answer.headers and PASSWORD not in answer.text
        assert f'value="{address}"' in answer.text  # it need not be typed again
        texts.append(answer.text.replace(address, ""))
    assert texts[0] == texts[1]
    visitor = Visitor(site)
    answer = check(visitor.post("/login", {"email": email, "password": PASSWORD}), 303)
    assert answer.headers["location"] == "/api-keys"
    assert check(visitor.get("/login"), 303).headers["location"] == "/api-keys"


def test_guessing_is_slowed_down_for_pages_and_api_together(site):
    email = fresh_email()
    check(Visitor(site).register(email), 201)
    for n in range(4):
        check(Person(site)("POST", "/api/auth/login", {"email": email, "password": f"guess number {n}"}), 401)
    for n in range(20):  # the delay doubles, so a slow machine meets it, too
        locked = Visitor(site).post("/login", {"email": email, "password": f"guess number {4 + n}"})
        if locked.status_code != 401:
            break
    refused(locked, 429)
    assert int(locked.headers["retry-after"]) >= 1 and "set-cookie" not in locked.headers
    admin_log = site.log_text()
    assert "login.locked" in admin_log and "guess number" not in admin_log and PASSWORD not in admin_log


def test_registration(site, make_server):
    email = fresh_email()
    check(Visitor(site).register(email), 201)
    refused(Visitor(site).register(email), 409)
    refused(Visitor(site).post("/register", {"email": "x", "password": PASSWORD}), 400, "email")
    refused(Visitor(site).post("/register", {"email": fresh_email(), "password": "short"}), 400, "10")
    closed = Visitor(make_server(REGISTRATION="closed"))
    refused(closed.get("/register"), 403, "administrator")
    refused(closed.register(), 403, "administrator")
    assert "/register" not in is_page(closed.get("/login")).text


# --- other sites ----------------------------------------------------------------------------------


def test_u08_forged_forms_are_refused(site, member):
    token = member.token()
    other = Visitor(site)
    check(other.register(), 201)
    wrong = ("", "0" * 64, token[:-1], token.upper(), other.token(), "null")
    for path, form in (
        ("/generate-key", {"name": "forged"}),
        ("/api-keys/revoke", {"id": member.keys()[0][2]}),
        ("/account/password", {"current_password": PASSWORD, "new_password": "battery staple"}),
        ("/logout", {}),
    ):
        refused(member.post(path, form), 403, "csrf")
        for value in wrong:
            refused(member.post(path, form | {"csrf": value}), 403, "csrf")
        refused(member.post(path, form, **{"X-CSRF-Token": token}), 403, "csrf")  # a form has it inside
        refused(member.post(path + "?csrf=" + token, form), 403, "csrf")
    assert [row[:2] for row in member.keys()] == [("default", "active")]


def test_forms_of_other_sites_are_refused(site, member):
    email = fresh_email()
    check(Visitor(site).register(email), 201)
    origins = ({}, {"Origin": "null"}, {"Origin": "http://evil.example"}, {"Origin": site.url + ".evil.example"},
               {"Origin": site.url, "Sec-Fetch-Site": "cross-site"},
               {"Origin": site.url, "Sec-Fetch-Site": "same-site"})  # fmt: skip
    for headers in origins:
        for path, form in (
            ("/login", {"email": email, "password": PASSWORD}),
            ("/register", {"email": fresh_email(), "password": PASSWORD}),
            ("/generate-key", {"csrf": member.token(), "name": "forged"}),
        ):
            answer = refused(member.http.post(path, data=form, headers=headers), 403)
            assert "set-cookie" not in answer.headers
    assert [row[:2] for row in member.keys()] == [("default", "active")]
    twice = [("Origin", site.url), ("Origin", "http://evil.example")]
    refused(member.http.post("/login", data={"email": email, "password": PASSWORD}, headers=twice), 400)


def test_only_a_session_is_a_credential_of_pages(site, member):
    key = KEY.search(member.post("/generate-key", {"csrf": member.token(), "name": "k"}).text)[0]
    stranger = Visitor(site, Authorization=f"Bearer {key}")
    assert check(stranger.get("/api-keys"), 303).headers["location"] == "/login"
    refused(stranger.post("/generate-key", {"name": "x"}), 401)


def test_account_and_its_password(site):
    email = fresh_email()
    here, there = Visitor(site), Visitor(site)
    check(here.register(email), 201)
    check(there.post("/login", {"email": email, "password": PASSWORD}), 303)
    page = is_page(check(here.get("/account"), 200)).text
    assert page.count(email) >= 2 and "10 executions a minute, 500 a day" in page and "<dd>user</dd>" in page
    form = {"csrf": here.token(), "current_password": PASSWORD, "new_password": "battery staple"}
    for wrong, status, words in (
        ({"current_password": "wrong horse"}, 403, "current_password"),
        ({"new_password": "short"}, 400, "10 to 256"),
        ({"new_password": ""}, 400, "new_password"),
    ):
        answer = refused(here.post("/account/password", form | wrong), status)
        assert 'role="alert"' in answer.text and words in html.unescape(answer.text), answer.text
        assert PASSWORD not in answer.text and "wrong horse" not in answer.text
    check(there.get("/account"), 200)
    assert "is changed" in is_page(check(here.post("/account/password", form), 200)).text
    check(here.get("/account"), 200)
    assert check(there.get("/account"), 303).headers["location"] == "/login"
    refused(there.post("/login", {"email": email, "password": PASSWORD}), 401)
    check(there.post("/login", {"email": email, "password": "battery staple"}), 303)


# --- what is hostile ------------------------------------------------------------------------------


def test_markup_stays_text(site, member):
    token = member.token()
    for name in (SCRIPT, '"><img src=x onerror=alert(1)>', "{{csrf}}", "' autofocus onfocus='x", "a\r\nX: y"):
        answer = refused(member.post("/generate-key", {"csrf": token, "name": name}), 400)
        assert "<script>alert" not in answer.text and "<img src=x" not in answer.text
        assert "x-injected" not in answer.headers and answer.text.count("<script") == 1  # the page's own
        page = refused(Visitor(site).post("/login", {"email": name, "password": "x"}), 401)
        assert html.escape(name, quote=True).replace("&#x27;", "&#39;").replace("\r", "�") in page.text
    for path in (f"/api-keys?cursor={SCRIPT}", "/api-keys?cursor=1-zz", "/api-keys?cursor=%00"):
        assert "<script>alert" not in refused(member.get(path), 400).text
    assert [row[0] for row in member.keys()] == ["default"]


def test_forms_are_read_strictly(site, member):
    token = member.token()

    def send(body, **headers):
        headers = {"Origin": site.url, "Content-Type": "application/x-www-form-urlencoded"} | headers
        return member.http.post("/generate-key", content=body, headers=headers)

    good = f"csrf={token}&name="
    for body in (good + "a&name=b", good + "a&more=1", good + "%ff", good + "%00", good + "%4", good, f"csrf={token}",
                 good + "a&", "&" + good + "a", good + "a&expires_days=x", good + "a&expires_days=99999",
                 good + "a" * 65, good + "a%20b", f"csrf={token}&csrf={token}&name=a", "\x00"):  # fmt: skip
        refused(send(body), 400)
    refused(send(good + "a" * 8192), 413)
    refused(send(iter([good.encode(), b"a" * 8192])), 413)  # chunked
    refused(send(good + "a", **{"Content-Type": "multipart/form-data; boundary=b"}), 415)
    refused(send(good + "a", **{"Content-Type": "application/json"}), 415)
    refused(send("{}", **{"Content-Type": "text/plain"}), 415)
    assert [row[0] for row in member.keys()] == ["default"]
    check(send(good + "a", **{"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8"}), 201)
    refused(send(good + "a"), 409)


def test_keys_of_others_are_out_of_reach(site, member):
    other = Visitor(site)
    check(other.register(), 201)
    theirs = other.keys()[0][2]
    for wrong in (theirs, "0" * 16, "x", "../" + theirs, theirs + "0", "é" * 8):
        answer = member.post("/api-keys/revoke", {"csrf": member.token(), "id": wrong})
        assert answer.status_code in (400, 404), answer.text
        is_page(answer)
    assert other.keys()[0][1] == "active"


def test_pages_of_keys(site, member):
    for n in range(52):
        made = check(member.post("/generate-key", {"csrf": member.token(), "name": f"k{n}"}), 201)
        if n % 2:
            check(member.post("/api-keys/revoke", {"csrf": member.token(), "id": member.keys()[0][2]}), 303)
    assert KEY.search(made.text)
    page = member.get("/api-keys").text
    names = re.findall(r'scope="row"[^>]*>([^<]*)<', page)
    link = html.unescape(re.search(r'href="(/api-keys\?cursor=[^"]+)"', page)[1])
    rest = is_page(check(member.get(link), 200)).text
    names += re.findall(r'scope="row"[^>]*>([^<]*)<', rest)
    assert names == [f"k{n}" for n in reversed(range(52))] + ["default"] and "cursor=" not in rest
    found, link = [], "/api-keys?limit=20"
    while link:
        page = is_page(check(member.get(link), 200)).text
        found.append(re.findall(r'scope="row"[^>]*>([^<]*)<', page))
        older = re.search(r'href="(/api-keys\?cursor=[^"]+)"', page)
        link = older and html.unescape(older[1])
    assert [len(page) for page in found] == [20, 20, 13] and sum(found, []) == names
    for limit in ("0", "51", "1000", "1001", "x", "", "-1"):
        refused(member.get(f"/api-keys?limit={limit}"), 400)


# --- the rest -------------------------------------------------------------------------------------


def test_errors_and_methods(site, visitor):
    for path in ("/login", "/api-keys", "/generate-key", "/"):
        answer = refused(visitor.http.request("DELETE", path), 405)
        assert answer.headers["allow"]
    assert "GET" not in refused(visitor.get("/logout"), 405).headers["allow"].split(", ")
    for path in ("/nothing", "/static/nothing.css", "/static/", "/templates/base.html"):
        answer = check(visitor.get(path), 404)
        assert answer.headers["content-type"] == "application/json"
    assert visitor.http.request("DELETE", "/api/auth/me").headers["content-type"] == "application/json"
    head = check(visitor.http.head("/login"), 200)
    assert not head.content and int(head.headers["content-length"]) > 500


def test_files_of_the_pages(site, visitor):
    page = visitor.get("/login").text
    links = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)
    assert {link.split("?")[0] for link in links} == {"/static/app.css", "/static/app.js", "/static/icon.svg"}
    for link in links:
        answer = check(visitor.get(link), 200)
        assert "immutable" in answer.headers["cache-control"] and answer.content
        tag = answer.headers["etag"]
        for known in (tag, "W/" + tag, f'"x", {tag}', "*"):
            again = check(visitor.get(link, headers={"If-None-Match": known}), 304)
            assert again.headers["etag"] == tag and not again.content
        for unknown in ('"x"', tag[1:-1], ""):
            check(visitor.get(link, headers={"If-None-Match": unknown}), 200)
        path = link.split("?")[0]
        assert visitor.get(path).headers["cache-control"] == "no-cache"
        assert visitor.get(path + "?v=other").headers["cache-control"] == "no-cache"
    assert visitor.get("/static/app.js").headers["content-type"].startswith("text/javascript")


def test_what_is_done_on_pages_is_in_the_audit_trail(tmp_path):
    with running_server(tmp_path, {}) as server:
        visitor = Visitor(server)
        check(visitor.register(), 201)  # the first: an administrator
        admin = KEY.search(visitor.post("/generate-key", {"csrf": visitor.token(), "name": "a"}).text)[0]
        check(visitor.post("/api-keys/revoke", {"csrf": visitor.token(), "id": visitor.keys()[1][2]}), 303)
        check(visitor.post("/logout", {"csrf": visitor.token()}), 303)
        trail = Person(server, admin)("GET", "/api/audit").json()["events"]
        actions = [event["action"] for event in trail]
        assert actions == ["session.end", "key.revoke", "key.create", "key.create", "user.create"]


# --- a real browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not program:
        pytest.skip("there is no chromium here")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program)
        yield opened
        opened.close()


def test_browser_gets_a_key_and_revokes_it(site, browser, guest):
    """With the browser's own fields, policy and cookies; nothing may be blocked, nothing wider than a small screen."""
    faults, asked = [], []
    context = browser.new_context(
        viewport={"width": 400, "height": 800}, extra_http_headers={"X-Forwarded-For": next(addresses)}
    )
    page = context.new_page()
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))

    def fits():
        assert page.evaluate("document.documentElement.scrollWidth") <= 400

    page.goto(site.url + "/")
    fits()
    page.get_by_role("link", name="Create one").click()
    page.get_by_label("E-mail address").fill(fresh_email())
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create the account").click()
    page.get_by_label("Name").fill("from-a-browser")
    page.get_by_role("button", name="Generate key").click()
    key = page.locator("#new-key").inner_text()
    assert KEY.fullmatch(key)
    page.get_by_role("button", name="Copy").click()
    page.get_by_role("button", name=re.compile("Copied|Selected")).wait_for()
    fits()
    with httpx.Client(base_url=site.url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        assert execute(client, site, guest("wat_echo"), b"x").json()["output"] == "x"

    page.goto(site.url + "/api-keys")
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    page.get_by_role("button", name="Revoke from-a-browser").click()
    assert "from-a-browser" in asked[0] and page.locator("tr.revoked").count() == 0
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Revoke from-a-browser").click()
    page.locator("tr.revoked").wait_for()
    assert page.url == site.url + "/api-keys"
    fits()
    page.get_by_role("link", name="Account").click()
    page.get_by_label("Current password").fill(PASSWORD)
    page.get_by_label("New password").fill("battery staple")
    page.get_by_role("button", name="Change the password").click()
    page.get_by_text("The password is changed").wait_for()
    fits()
    # nothing that was put into the page by somebody else runs: the policy holds in a real browser
    assert page.evaluate("""() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';
                                    document.body.append(s); return window.ran; }""") is None
    assert len(faults) == 1 and "Content Security Policy" in faults.pop()
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("heading", name="Log in").wait_for()
    assert not faults
    context.close()


def test_browser_does_not_send_forms_of_other_sites(site, browser):
    """A page of another origin posts a login: the browser says so, and it is refused."""
    page = browser.new_page()
    page.route("http://other.example/", lambda route: route.fulfill(
        content_type="text/html",
        body=f'<form method="post" action="{site.url}/login"><input name="email" value="a@example.org">'
             '<input name="password" value="correct horse"><button>go</button></form>'))  # fmt: skip
    page.goto("http://other.example/")
    with page.expect_response("**/login") as answer:
        page.get_by_role("button", name="go").click()
    assert answer.value.status == 403
    wait_until(lambda: "another site" in page.content(), "the page of the error")
    page.close()
