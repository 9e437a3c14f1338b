from hybrid.data import records


def test_columns_and_splits(tiny_builder):
    columns = records.read_columns(tiny_builder, 'validation')
    assert {'id', 'age', 'gender', 'group'} <= columns.keys()
    assert columns['id'].dtype.kind == 'U'
    assert len(set(columns['id'])) == len(columns['id'])
