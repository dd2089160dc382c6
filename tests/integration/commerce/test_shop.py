"""The catalogue and the carts."""

import asyncio
import unicodedata

import pytest

from domain.commerce.shop.catalogue import ProductChange, ProductDraft
from domain.commerce.shop.errors import (
    CartFull,
    CartItemNotFound,
    OutOfStock,
    ProductAlreadyExists,
    ProductNotFound,
    ProductNotOnSale,
    ShopFieldInvalid,
)
from domain.commerce.shop.models import Product, ProductCategory
from domain.commerce.subscription.models import AccessLevel
from domain.commerce.subscription.plan_data import ACCESS_RULES
from domain.commerce.terms import Tier
from domain.errors import Forbidden, InvalidInput
from domain.hardware.cartridge.registry_data import TYPES
from domain.paging import Page, PageRequest
from domain.principal import Principal
from tests.integration.commerce.conftest import ADMIN, ALICE, BOB, Commerce
from tests.integration.commerce.shop_scene import CASE, GLUCOSE, put_in_cart, set_stock, stock_of

HOSTILE = ["\0", "'; DROP TABLE products; --", "\ud7a4", "%_\\", "&|!():*<->", "\u202e", "😀" * 50, "a" * 200]


async def search(commerce: Commerce, words: str, category: ProductCategory | None = None) -> list[str]:
    async with commerce.database.read() as session:
        page = await commerce.services.shop.catalogue.page(session, PageRequest(100), category=category, search=words)
    return [product.name_en for product in page.items]


async def product(commerce: Commerce, product_id: str) -> Product:
    async with commerce.database.read() as session:
        return await commerce.services.shop.catalogue.get(session, product_id)


async def change(commerce: Commerce, product_id: str, what: ProductChange, who: Principal = ADMIN) -> Product:
    async with commerce.database.transaction() as session:
        return await commerce.services.shop.catalogue.change(session, who, product_id=product_id, change=what)


async def restock(commerce: Commerce, quantity: int, who: Principal = ADMIN) -> Product:
    async with commerce.database.transaction() as session:
        return await commerce.services.shop.catalogue.restock(
            session, who, product_id=GLUCOSE, quantity=quantity, note="입고"
        )


DRAFT = ProductDraft(
    product_id="test-strip",
    name_ko="시험지",
    name_en="Test strip",
    description_ko="",
    description_en="",
    category=ProductCategory.ACCESSORY,
    price_krw=5_000,
    required_tier=Tier.FREE,
    opening_stock=7,
)


async def test_the_catalogue_opens_with_every_cartridge_type_under_its_names(commerce: Commerce) -> None:
    rows = await commerce.fetch(
        "SELECT cartridge_category_code AS category, cartridge_type_index AS type_index, name_ko FROM products "
        "WHERE category = 'cartridge'"
    )
    sold = {(row["category"], row["type_index"]): str(row["name_ko"]) for row in rows}
    assert sold == {(t.category, t.type_index): f"{t.name_ko} 카트리지" for t in TYPES}


async def test_a_cartridge_is_sold_from_the_lowest_plan_that_may_use_it(commerce: Commerce) -> None:
    def lowest(category: int, type_index: int) -> Tier:
        own = [rule for rule in ACCESS_RULES if rule.first_category <= category <= rule.last_category]
        rules = [rule for rule in own if rule.type_index == type_index] or [r for r in own if r.type_index == 0]
        return min((r.tier for r in rules if r.level is not AccessLevel.RESTRICTED), key=lambda tier: tier.rank)

    rows = await commerce.fetch("SELECT * FROM products WHERE category = 'cartridge'")
    asked = {str(row["product_id"]): Tier(str(row["required_tier"])) for row in rows}
    assert len(asked) == 30
    assert asked == {
        str(row["product_id"]): lowest(int(str(row["cartridge_category_code"])), int(str(row["cartridge_type_index"])))
        for row in rows
    }


async def test_every_cell_that_is_bought_apart_has_a_pass(commerce: Commerce) -> None:
    rows = await commerce.fetch("SELECT addon_category_code AS code, required_tier AS tier FROM products")
    passes = {row["code"]: row["tier"] for row in rows if row["code"] is not None}
    cells = [rule for rule in ACCESS_RULES if rule.level is AccessLevel.ADD_ON]
    wanted: dict[object, object] = {}
    for rule in sorted(cells, key=lambda rule: rule.tier.rank, reverse=True):
        wanted |= dict.fromkeys(range(rule.first_category, rule.last_category + 1), rule.tier.value)
    assert passes == wanted


async def test_opening_stock_stands_in_the_ledger(commerce: Commerce) -> None:
    rows = await commerce.fetch(
        "SELECT p.stock, coalesce(sum(m.quantity), 0) AS moved FROM products p LEFT JOIN stock_movements m "
        "USING (product_id) GROUP BY p.product_id"
    )
    assert rows
    assert all(row["stock"] == row["moved"] and int(str(row["stock"])) > 0 for row in rows)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("혈당", "Glucose cartridge"),
        ("당화", "HbA1c cartridge"),
        ("gluc", "Glucose cartridge"),
        ("VITAMIN b12", "Vitamin B12 cartridge"),
        ("비타민 카트", "Vitamin D cartridge"),
        ("  starter ", "Starter bundle"),
        (unicodedata.normalize("NFD", "갑상선"), "TSH cartridge"),
    ],
)
async def test_a_search_finds_words_by_their_beginnings(commerce: Commerce, words: str, found: str) -> None:
    assert found in await search(commerce, words)


async def test_a_search_asks_for_all_of_its_words(commerce: Commerce) -> None:
    assert await search(commerce, "vitamin d") == ["Vitamin D cartridge"]
    assert await search(commerce, "vitamin 당화") == []
    assert await search(commerce, "itamin") == []
    assert await search(commerce, "glucose", ProductCategory.BUNDLE) == ["Starter bundle", "Metabolic health bundle"]


@pytest.mark.parametrize("words", HOSTILE)
async def test_no_search_breaks_the_query(commerce: Commerce, words: str) -> None:
    assert await search(commerce, words) == []


async def test_a_search_of_megabytes_is_refused(commerce: Commerce) -> None:
    with pytest.raises(ShopFieldInvalid):
        await search(commerce, "가" * 100_000)


async def test_pages_neither_skip_nor_repeat(commerce: Commerce) -> None:
    seen: list[str] = []
    after = None
    while True:
        async with commerce.database.read() as session:
            page: Page[Product] = await commerce.services.shop.catalogue.page(
                session, PageRequest(7, after), category=None, search=""
            )
        seen += [row.product_id for row in page.items]
        if not page.has_next:
            break
        after = (page.items[-1].created_at, page.items[-1].product_id)
    async with commerce.database.read() as session:
        listed, total = await commerce.services.shop.catalogue.list(session, category=None, limit=100, offset=0)
    assert seen == [row.product_id for row in listed]
    assert total == page.total == len(seen) == len(set(seen))


async def test_categories_count_what_is_on_sale(commerce: Commerce) -> None:
    await change(commerce, GLUCOSE, ProductChange(is_active=False))
    async with commerce.database.read() as session:
        counts = await commerce.services.shop.catalogue.categories(session)
        _, readers = await commerce.services.shop.catalogue.list(
            session, category=ProductCategory.READER, limit=0, offset=0
        )
    assert {row.category: row.products for row in counts} == {
        ProductCategory.CARTRIDGE: 29,
        ProductCategory.READER: readers,
        ProductCategory.ACCESSORY: 22,
        ProductCategory.BUNDLE: 3,
    }
    assert await search(commerce, "혈당 카트리지") == ["Starter bundle", "Metabolic health bundle"]


async def test_an_administrator_adds_changes_and_restocks(commerce: Commerce) -> None:
    async with commerce.database.transaction() as session:
        await commerce.services.shop.catalogue.create(session, ADMIN, DRAFT)
    await change(commerce, "test-strip", ProductChange(name_ko="소변 시험지", price_krw=6_000))
    assert "Test strip" in await search(commerce, "소변")
    changed = await product(commerce, "test-strip")
    assert (changed.price_krw, changed.stock, changed.name_en) == (6_000, 7, "Test strip")
    before = await stock_of(commerce)
    assert (await restock(commerce, 20)).stock == before + 20
    assert (await restock(commerce, -5)).stock == before + 15
    lines = await commerce.fetch(
        "SELECT kind, quantity, recorded_by FROM stock_movements WHERE product_id = $1 ORDER BY movement_id", GLUCOSE
    )
    assert [(line["kind"], line["quantity"], line["recorded_by"]) for line in lines[1:]] == [
        ("restock", 20, "admin"),
        ("restock", -5, "admin"),
    ]


async def test_stock_that_is_not_there_cannot_be_taken_off(commerce: Commerce) -> None:
    before = await stock_of(commerce)
    with pytest.raises(ShopFieldInvalid):
        await restock(commerce, -before - 1)
    assert await stock_of(commerce) == before


async def test_a_product_id_is_given_once(commerce: Commerce) -> None:
    async with commerce.database.transaction() as session:
        await commerce.services.shop.catalogue.create(session, ADMIN, DRAFT)
    with pytest.raises(ProductAlreadyExists):
        async with commerce.database.transaction() as session:
            await commerce.services.shop.catalogue.create(session, ADMIN, DRAFT)


async def test_a_customer_changes_nothing_in_the_catalogue(commerce: Commerce) -> None:
    with pytest.raises(Forbidden):
        await change(commerce, GLUCOSE, ProductChange(price_krw=1), ALICE)
    with pytest.raises(Forbidden):
        await restock(commerce, 1, ALICE)
    with pytest.raises(Forbidden):
        async with commerce.database.transaction() as session:
            await commerce.services.shop.catalogue.create(session, ALICE, DRAFT)


@pytest.mark.parametrize(
    "what",
    [
        ProductChange(price_krw=0),
        ProductChange(price_krw=2**31),
        ProductChange(name_ko="   "),
        ProductChange(name_en="\0"),
        ProductChange(name_en="x" * 121),
        ProductChange(description_ko="가" * 1_000_000),
        ProductChange(image_url="http://plain.example/picture.png"),
        ProductChange(image_url="https://[broken"),
        ProductChange(image_url="javascript:alert(1)"),
    ],
)
async def test_a_product_cannot_have_every_value(commerce: Commerce, what: ProductChange) -> None:
    with pytest.raises(ShopFieldInvalid):
        await change(commerce, GLUCOSE, what)


async def test_more_of_a_product_in_the_cart_adds_up(commerce: Commerce) -> None:
    await put_in_cart(commerce, cartridge_01_01=2)
    await put_in_cart(commerce, accessory_case=1)
    await put_in_cart(commerce, cartridge_01_01=3)
    async with commerce.database.read() as session:
        cart = await commerce.services.shop.carts.get(session, ALICE, user_id="")
    assert [(line.product.product_id, line.quantity) for line in cart.lines] == [(GLUCOSE, 5), (CASE, 1)]
    assert cart.total_krw == 5 * 15_900 + 29_000


async def test_the_first_pieces_put_into_a_cart_at_once_all_count(commerce: Commerce) -> None:
    await asyncio.gather(*(put_in_cart(commerce, cartridge_01_01=1) for _ in range(8)))
    async with commerce.database.read() as session:
        cart = await commerce.services.shop.carts.get(session, ALICE, user_id="")
    assert [line.quantity for line in cart.lines] == [8]


async def test_an_item_is_changed_and_taken_out(commerce: Commerce) -> None:
    await put_in_cart(commerce, cartridge_01_01=2, accessory_case=1)
    carts = commerce.services.shop.carts
    async with commerce.database.transaction() as session:
        cart = await carts.get(session, ALICE, user_id="")
        item_id = cart.lines[0].cart_item_id
        cart = await carts.change(session, ALICE, user_id="", cart_item_id=item_id, quantity=9)
        assert cart.lines[0].quantity == 9
        cart = await carts.remove(session, ALICE, user_id="", cart_item_id=item_id)
    assert [line.product.product_id for line in cart.lines] == [CASE]


async def test_a_cart_is_its_owners_alone(commerce: Commerce) -> None:
    await put_in_cart(commerce, cartridge_01_01=2)
    carts = commerce.services.shop.carts
    async with commerce.database.read() as session:
        item_id = (await carts.get(session, ALICE, user_id="")).lines[0].cart_item_id
    with pytest.raises(Forbidden):
        async with commerce.database.read() as session:
            await carts.get(session, BOB, user_id="alice")
    with pytest.raises(CartItemNotFound):
        async with commerce.database.transaction() as session:
            await carts.remove(session, BOB, user_id="", cart_item_id=item_id)
    with pytest.raises(CartItemNotFound):
        async with commerce.database.transaction() as session:
            await carts.change(session, BOB, user_id="", cart_item_id=item_id, quantity=1)
    async with commerce.database.read() as session:
        assert len((await carts.get(session, ALICE, user_id="")).lines) == 1


@pytest.mark.parametrize("quantity", [0, -1, 100, 2**31 - 1, -(2**31)])
async def test_a_quantity_has_bounds(commerce: Commerce, quantity: int) -> None:
    with pytest.raises(InvalidInput):
        await put_in_cart(commerce, cartridge_01_01=quantity)


async def test_quantities_that_add_up_stay_within_the_bounds(commerce: Commerce) -> None:
    await put_in_cart(commerce, cartridge_01_01=98)
    with pytest.raises(ShopFieldInvalid):
        await put_in_cart(commerce, cartridge_01_01=2)


async def test_a_cart_takes_two_hundred_pieces(commerce: Commerce) -> None:
    await put_in_cart(commerce, cartridge_01_01=99, cartridge_01_02=99, accessory_case=2)
    with pytest.raises(CartFull):
        await put_in_cart(commerce, accessory_charger=1)


async def test_a_cart_takes_no_more_than_is_left_and_says_how_much_that_is(commerce: Commerce) -> None:
    await set_stock(commerce, 3)
    await put_in_cart(commerce, cartridge_01_01=2)
    with pytest.raises(OutOfStock) as refused:
        await put_in_cart(commerce, cartridge_01_01=2)
    assert refused.value.message == "3 of Glucose cartridge are left; 4 are wanted."
    assert refused.value.details["left"] == "3"


async def test_what_is_not_on_sale_is_not_put_into_a_cart(commerce: Commerce) -> None:
    await change(commerce, GLUCOSE, ProductChange(is_active=False))
    with pytest.raises(ProductNotOnSale):
        await put_in_cart(commerce, cartridge_01_01=1)


@pytest.mark.parametrize("product_id", ["", "nothing", *HOSTILE])
async def test_an_unknown_product_is_not_found(commerce: Commerce, product_id: str) -> None:
    with pytest.raises(ProductNotFound):
        async with commerce.database.transaction() as session:
            await commerce.services.shop.carts.add(session, ALICE, user_id="", product_id=product_id, quantity=1)
